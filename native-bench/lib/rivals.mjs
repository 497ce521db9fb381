/** The upstream, the gateways that are compared, and how each is started. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { benchFolder, howToInstall, installed, mainFile } from './machine.mjs'
import { accepting, freePort } from './processes.mjs'

/** 141 bytes, a usual small answer. */
export const smallBody = JSON.stringify({
  id: 7,
  name: 'gasket',
  price: 3.75,
  stock: 1200,
  tags: ['rubber', 'seal'],
  note: 'one small record, as most answers of a web service are',
}).padEnd(141, ' ')

export const largeBody = 'sixteen bytes..\n'.repeat(1024)

/** Writes a configuration of `configs/` with its @NAMES@ filled in, into the folder of the run. */
function configure(workshop, file, values, as = file) {
  const text = readFileSync(join(benchFolder, 'configs', file), 'utf8').replace(/@([A-Z_]+)@/g, (name, key) => {
    const value = { DIR: workshop.folder, ...values }[key]
    if (value === undefined) throw new Error(`${file}: nothing to put in place of ${name}`)
    return String(value)
  })
  const path = join(workshop.folder, as)
  writeFileSync(path, text)
  return path
}

/** Starts the upstream: one nginx worker on the load's core. */
export async function startUpstream(workshop, cores) {
  if (Buffer.byteLength(smallBody) !== 141) throw new Error(`the small body has ${Buffer.byteLength(smallBody)} bytes, not 141`)
  const port = await freePort()
  const files = join(workshop.folder, 'files')
  mkdirSync(files, { mode: 0o755 })
  writeFileSync(join(files, '16k'), largeBody)
  const config = configure(workshop, 'upstream.conf', { UPSTREAM_PORT: port, SMALL_BODY: smallBody })
  const running = workshop.start('the upstream', cores, 'nginx', ['-e', join(workshop.folder, 'upstream.err'), '-c', config])
  await accepting(running, port)
  return { port, running }
}

/** Starts our gateway on a free port with one worker unless said otherwise. */
export async function startSluice(workshop, cores, { config, upstreamPort, workers = 1, name = 'sluice', env = {} }) {
  const port = await freePort()
  const metricsPort = await freePort()
  const args = [mainFile, 'start', '-c', config, '--listen', `127.0.0.1:${port}`, '--metrics', `127.0.0.1:${metricsPort}`]
  const running = workshop.start(name, cores, process.execPath, [...args, '--workers', String(workers)], {
    env: { BENCH_UPSTREAM_PORT: String(upstreamPort), ...env },
  })
  await accepting(running, port)
  return { name, port, metricsPort, running }
}

function sluiceWith(config) {
  return async (workshop, cores, upstreamPort) =>
    startSluice(workshop, cores, { config: join(benchFolder, 'configs', config), upstreamPort })
}

async function started(workshop, cores, name, port, command, args) {
  const running = workshop.start(name, cores, command, args)
  await accepting(running, port)
  return { name, port, running }
}

/** http-proxy with an agent that keeps connections, or as its documentation starts it: without one. */
function httpProxy(name, agent) {
  return {
    program: null,
    start: async (workshop, cores, upstreamPort) => {
      const port = await freePort()
      const script = join(benchFolder, 'rivals', 'http-proxy.mjs')
      return started(workshop, cores, name, port, process.execPath, [script, String(port), String(upstreamPort), agent])
    },
  }
}

/** In the order of the tables. `program`: what has to be installed for it. */
export const rivals = {
  sluice: { program: null, start: sluiceWith('sluice.yaml') },
  'sluice-plain': { program: null, start: sluiceWith('sluice.yaml') },
  'sluice-pipelining': { program: null, start: sluiceWith('sluice-pipelining.yaml') },
  nginx: {
    program: 'nginx',
    start: async (workshop, cores, upstreamPort) => {
      const port = await freePort()
      const config = configure(workshop, 'nginx.conf', { PORT: port, UPSTREAM_PORT: upstreamPort })
      return started(workshop, cores, 'nginx', port, 'nginx', ['-e', join(workshop.folder, 'nginx.err'), '-c', config])
    },
  },
  haproxy: {
    program: 'haproxy',
    start: async (workshop, cores, upstreamPort) => {
      const port = await freePort()
      const config = configure(workshop, 'haproxy.cfg', { PORT: port, UPSTREAM_PORT: upstreamPort })
      return started(workshop, cores, 'haproxy', port, 'haproxy', ['-db', '-q', '-f', config])
    },
  },
  'http-proxy': httpProxy('http-proxy', 'keep-alive'),
  'http-proxy-default': httpProxy('http-proxy-default', 'default'),
}

/** Rival names that can run here; prints a note for each that cannot. */
export function available(names) {
  return names.filter((name) => {
    const { program } = rivals[name]
    if (program === null || installed(program)) return true
    console.error(`${name} is left out: ${howToInstall(program)}`)
    return false
  })
}
