/** A compiled route with defaults, for tests of what reads compiled routes. */
import type { CompiledRoute } from '../../src/schema/compiled.js'

export function compiledRoute(fields: Partial<CompiledRoute> & { readonly uris: string[] }): CompiledRoute {
  return {
    id: '1',
    name: '',
    hosts: [],
    methods: [],
    remoteAddrs: [],
    vars: null,
    priority: 0,
    serviceId: '',
    serviceName: '',
    labels: {},
    plugins: [],
    upstream: -1,
    timeout: null,
    websocket: false,
    ...fields,
  }
}
