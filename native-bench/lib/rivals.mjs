/** The upstream, the gateways that are compared, and how each is started with the configuration of a job. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { benchFolder, howToInstall, installed, mainFile, packageVersion } from './machine.mjs'
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

const jobsFolder = join(benchFolder, 'jobs')
const nginxModules = '/usr/lib/nginx/modules'

/** Writes a file of `jobs/` with its @NAMES@ filled in, into the folder of the run. */
function configure(workshop, file, values, as) {
  const text = readFileSync(join(jobsFolder, file), 'utf8').replace(/@([A-Z_]+)@/g, (name, key) => {
    const value = { DIR: workshop.folder, JOBS: jobsFolder, MODULES: nginxModules, ...values }[key]
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
  const config = configure(workshop, 'shared/upstream.conf', { UPSTREAM_PORT: port, SMALL_BODY: smallBody }, 'upstream.conf')
  const running = workshop.start('the upstream', cores, 'nginx', ['-e', join(workshop.folder, 'upstream.err'), '-c', config])
  await accepting(running, port)
  return { port, running }
}

/**
 * Starts our gateway with one worker unless said otherwise.
 *
 * @param port where it listens: a free one as a rule; with `hasListeners`, the one that the configuration itself names.
 * @param main `dist/main.js` of the build.
 */
export async function startSluice(workshop, cores, options) {
  const { config, upstreamPort = 0, workers = 1, name = 'sluice', env = {}, main = mainFile, hasListeners = false } = options
  const port = options.port ?? (await freePort())
  const metricsPort = await freePort()
  const listen = hasListeners ? [] : ['--listen', `127.0.0.1:${port}`]
  const args = [main, 'start', '-c', config, ...listen, '--metrics', `127.0.0.1:${metricsPort}`, '--workers', String(workers)]
  const running = workshop.start(name, cores, process.execPath, args, { env: { BENCH_UPSTREAM_PORT: String(upstreamPort), ...env } })
  await accepting(running, port)
  return { name, port, metricsPort, running }
}

async function started(workshop, cores, gateway, command, args, options = {}) {
  const running = workshop.start(gateway.name, cores, command, args, options)
  await accepting(running, gateway.port)
  return { ...gateway, running }
}

/** `values`: for the names in the configuration; `folder`: that of the job; `own`: values that go before those of the job. */
function sluice(main, own = {}) {
  return async (workshop, cores, { name, folder, values }) => {
    const port = await freePort()
    const config = configure(workshop, `${folder}/sluice.yaml`, { ...values, ...own, PORT: port }, `${name}.yaml`)
    return startSluice(workshop, cores, { config, port, name, hasListeners: folder === 'tls', ...(main === undefined ? {} : { main }) })
  }
}

function nginx(file) {
  return async (workshop, cores, { name, folder, values }) => {
    const port = await freePort()
    const http = configure(workshop, 'shared/nginx-http.conf', values, 'nginx-http.conf')
    const all = { ...values, PORT: port, NAME: name, HTTP: http }
    const config = configure(workshop, `${folder}/${file}`, all, `${name}.conf`)
    const metrics = file === 'nginx-lua.conf' ? { metricsPort: port } : {}
    return started(workshop, cores, { name, port, ...metrics }, 'nginx', ['-e', join(workshop.folder, `${name}.err`), '-c', config])
  }
}

async function haproxy(workshop, cores, { name, folder, values }) {
  const [port, metricsPort] = [await freePort(), await freePort()]
  const all = { MAX_CONNECTIONS: 8192, ...values, PORT: port, METRICS_PORT: metricsPort }
  const defaults = configure(workshop, 'shared/haproxy-defaults.cfg', all, 'haproxy-defaults.cfg')
  const config = configure(workshop, `${folder}/haproxy.cfg`, all, `${name}.cfg`)
  return started(workshop, cores, { name, port, metricsPort }, 'haproxy', ['-db', '-q', '-f', defaults, '-f', config])
}

// Pinned to one core, the runtime of Go sets GOMAXPROCS to 1 by itself.
async function caddy(workshop, cores, { name, folder, values }) {
  const port = await freePort()
  const shared = configure(workshop, 'shared/Caddyfile', values, 'Caddyfile')
  const config = configure(workshop, `${folder}/Caddyfile`, { ...values, PORT: port, SHARED: shared }, `${name}.caddy`)
  // It writes down what it was started with.
  const env = { XDG_CONFIG_HOME: workshop.folder, XDG_DATA_HOME: workshop.folder }
  return started(workshop, cores, { name, port }, 'caddy', ['run', '--adapter', 'caddyfile', '--config', config], { env })
}

/** A program of `rivals/`, of which each is a plain proxy (see rivals/front.mjs) or answers by itself. */
function script(file, ...options) {
  return async (workshop, cores, { name, folder, values }) => {
    const port = await freePort()
    const certificate = ['--cert', join(workshop.folder, 'server.pem'), '--key', join(workshop.folder, 'server.key')]
    const args = ['--port', String(port), '--upstream', String(values.UPSTREAM_PORT), ...(folder === 'tls' ? certificate : []), ...options]
    return started(workshop, cores, { name, port }, process.execPath, [join(benchFolder, 'rivals', file), ...args])
  }
}

const always = () => null
const program = (name) => () => (installed(name) ? null : howToInstall(name))
const npmPackages =
  (...names) =>
  () =>
    names.every((name) => packageVersion(name) !== null) ? null : `${names.join(' and ')} missing: npm ci`

/** In the order of the tables. `lacks`: what has to be installed for it, or null. */
export const rivals = {
  sluice: { lacks: always, start: sluice() },
  'sluice-pipelining': { lacks: always, start: sluice(undefined, { PIPELINING: 16 }) },
  nginx: { lacks: program('nginx'), start: nginx('nginx.conf') },
  haproxy: { lacks: program('haproxy'), start: haproxy },
  'nginx-lua': {
    lacks: () => (existsSync(join(nginxModules, 'ngx_http_lua_module.so')) ? null : 'apt-get install libnginx-mod-http-lua'),
    start: nginx('nginx-lua.conf'),
  },
  caddy: { lacks: program('caddy'), start: caddy },
  // With an agent that keeps connections, and as its documentation starts it: without one.
  'http-proxy': { lacks: npmPackages('http-proxy'), start: script('http-proxy.mjs') },
  'http-proxy-default': { lacks: npmPackages('http-proxy'), start: script('http-proxy.mjs', '--no-agent') },
  '@fastify/http-proxy': { lacks: npmPackages('fastify', '@fastify/http-proxy'), start: script('fastify.mjs') },
  'fast-gateway': { lacks: npmPackages('fast-gateway'), start: script('fast-gateway.mjs') },
  'uws-empty': { lacks: always, start: script('uws-empty.mjs') },
}

/** Our gateway from another build. */
export function sluiceOf(main) {
  return { lacks: always, start: sluice(main) }
}

const noted = new Set()

/** Rival names that can run here; prints a note, once, for each that cannot. */
export function available(names) {
  return names.filter((name) => {
    const lacking = rivals[name].lacks()
    if (lacking !== null && !noted.has(name)) console.error(`${name} is left out: ${lacking}`)
    if (lacking !== null) noted.add(name)
    return lacking === null
  })
}
