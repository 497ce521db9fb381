/** What a run needs from the machine, and what a report says about it. */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { availableParallelism, cpus, release, totalmem } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('../..', import.meta.url))
export const benchFolder = join(root, 'native-bench')
export const mainFile = join(root, 'dist', 'main.js')

/** Debian and Ubuntu package that brings a program. */
const packages = {
  wrk: 'wrk',
  nginx: 'nginx-light',
  haproxy: 'haproxy',
  caddy: 'caddy',
  taskset: 'util-linux',
  openssl: 'openssl',
  git: 'git',
}

// /usr/sbin is not on everybody's PATH, and nginx and HAProxy live there.
process.env.PATH = [process.env.PATH, '/usr/sbin', '/sbin'].join(delimiter)

export function installed(program) {
  return process.env.PATH.split(delimiter).some((folder) => folder !== '' && existsSync(join(folder, program)))
}

export function howToInstall(program) {
  return `${program} is missing: apt-get install ${packages[program]}`
}

/** Ends the program with exit code 2 when one of `programs` is missing, naming the packages of all that are. */
export function requirePrograms(programs) {
  const missing = programs.filter((program) => !installed(program))
  if (missing.length === 0) return
  for (const program of missing) console.error(howToInstall(program))
  process.exit(2)
}

export function requireBuild() {
  if (existsSync(mainFile)) return
  console.error(`${mainFile} is missing: npm ci && npm run build`)
  process.exit(2)
}

/** Gateway and load need a core each; sharing one measures the scheduler. */
export function requireTwoCores(force) {
  const cores = availableParallelism()
  if (cores >= 2) return
  console.error(`this machine offers ${cores} core; the gateway and the load need one each${force ? '' : ' (--force runs anyway, on one)'}`)
  if (!force) process.exit(2)
}

/** The first cores this process may use, as taskset writes them: the gateway's and the load's. */
export function corePair() {
  const list = /^Cpus_allowed_list:\s*(\S+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'
  const cores = list.split(',').flatMap((range) => {
    const [from, to = from] = range.split('-').map(Number)
    return Array.from({ length: to - from + 1 }, (_, i) => String(from + i))
  })
  return { gateway: cores[0], load: cores[1] ?? cores[0], all: cores.join(',') }
}

function version(program, args, pattern) {
  if (!installed(program)) return null
  const { stdout, stderr } = spawnSync(program, args, { encoding: 'utf8' })
  return pattern.exec(`${stdout}${stderr}`)?.[1] ?? 'unknown'
}

/** The version of an npm package that is here, or null. */
export function packageVersion(name) {
  const path = join(root, 'node_modules', name, 'package.json')
  return existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')).version : null
}

export function describeMachine() {
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    versions: {
      sluice: JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).version,
      commit: spawnSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: root, encoding: 'utf8' }).stdout?.trim() || 'unknown',
      node: process.version,
      uWebSockets: packageVersion('uWebSockets.js'),
      nginx: version('nginx', ['-v'], /nginx\/(\S+)/),
      haproxy: version('haproxy', ['-v'], /version (\S+)/),
      caddy: version('caddy', ['version'], /^v?(\d\S+)/),
      'http-proxy': packageVersion('http-proxy'),
      '@fastify/http-proxy': packageVersion('@fastify/http-proxy'),
      fastify: packageVersion('fastify'),
      'fast-gateway': packageVersion('fast-gateway'),
      wrk: version('wrk', ['-v'], /wrk (?:debian\/)?(\S+)/),
    },
  }
}
