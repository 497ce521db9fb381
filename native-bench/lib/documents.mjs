/** Configurations of our gateway that are made, not written: many routes, and generations that can be told apart from outside. */
import { rename, writeFile } from 'node:fs/promises'

/** The path of one of the numbered routes. */
export function routePath(index) {
  return `/r/${index}/items`
}

/**
 * @param count exact routes, `routePath(0)` to `routePath(count - 1)`, all to one upstream.
 * @param consumers that many of them, each with a credential of key-auth and one of jwt-auth.
 * @param generation a name; adds a route that only this document has (see generationPath), or nothing when absent.
 */
export function manyRoutes({ count, consumers = 0, upstreamPort, generation }) {
  const routes = Array.from({ length: count }, (_, index) => ({ id: `r${index}`, uri: routePath(index), upstream_id: 'bench' }))
  if (generation !== undefined) routes.push({ id: `generation-${generation}`, uri: generationPath(generation), upstream_id: 'bench' })
  return JSON.stringify({
    routes,
    ...(consumers > 0 && { consumers: Array.from({ length: consumers }, (_, index) => consumer(index)) }),
    upstreams: [
      {
        id: 'bench',
        type: 'roundrobin',
        keepalive_pool: { size: 320, requests: 1_000_000_000 },
        nodes: [{ host: '127.0.0.1', port: upstreamPort, weight: 1 }],
      },
    ],
    sluice: { log: { level: 'error', access: { format: 'off' } } },
  })
}

function consumer(index) {
  const secret = `s-${((index * 40_503) >>> 0).toString(16).padStart(32, 'f')}`
  const plugins = { 'key-auth': { key: `key-${index}-${secret.slice(-8)}` }, 'jwt-auth': { key: `user-${index}`, secret } }
  return { username: `user-${index}`, plugins }
}

export function generationPath(generation) {
  return `/generation/${generation}`
}

/** Replaces a configuration file in one step: a reader sees the old one or the new one, never half. */
export async function replaceFile(path, text) {
  await writeFile(`${path}.new`, text)
  await rename(`${path}.new`, path)
}
