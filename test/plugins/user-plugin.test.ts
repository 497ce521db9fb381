/** The example of a user plugin is loaded from its file as the gateway loads it, and does what its README says. */
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import type { AnyPlugin, Json } from '../../src/plugins/plugin.js'
import { loadUserPlugins } from '../../src/plugins/user-plugins.js'
import { type FakeRequest, fakeExchange } from '../support/fake-exchange.js'
import { configure, problemsOf, requestPhases } from './configured.js'

const folder = new URL('../../config/plugins/', import.meta.url)

async function example(): Promise<AnyPlugin> {
  const [plugin] = await loadUserPlugins([fileURLToPath(new URL('example-plugin.js', folder))])
  if (plugin === undefined) throw new Error('the example module has no plugin')
  return plugin
}

async function answer(conf: Json, request: FakeRequest) {
  const instance = configure(await example(), conf)
  const exchange = fakeExchange(request)
  const reply = await requestPhases(instance, exchange)
  exchange.respond(reply === undefined ? {} : { status: reply.status, source: 'gateway' })
  instance.headerFilter?.(exchange)
  return { reply, gate: exchange.response.headers.getAll('x-gate') }
}

describe('the example of a user plugin', () => {
  test('declares itself', async () => {
    const plugin = await example()
    expect(plugin.name).toBe('gate-keeper')
    expect(plugin.priority).toBe(1500)
    for (const [name, field] of Object.entries(plugin.schema.properties)) expect(field['description'], name).toMatch(/\S/)
  })

  test('marks answers by default and refuses nobody', async () => {
    const { reply, gate } = await answer({}, { clientAddress: '1.2.3.4', route: { id: 'r1' } })
    expect(reply).toBeUndefined()
    expect(gate).toEqual(['r1 from 1.2.3.4'])
  })

  test('the configuration of the README does what the README shows', async () => {
    const readme = await readFile(new URL('README.md', folder), 'utf8')
    const yaml = /```yaml\n([^`]*)```/.exec(readme)?.[1] ?? ''
    const document = parse(yaml)
    expect(document.sluice.plugins).toEqual(['./plugins/example-plugin.js'])
    const conf = document.routes[0].plugins['gate-keeper']
    const curl = await answer(conf, { headers: { 'User-Agent': 'curl/8.0' }, route: { id: document.routes[0].id } })
    expect(curl.reply).toEqual({ status: 403, body: '{"message":"refused by the gate keeper"}\n' })
    expect(readme).toContain(curl.reply?.body)
    expect(curl.gate).toEqual(['front for 127.0.0.1'])
    expect(readme).toContain(`X-Gate: ${curl.gate[0]}`)
    const browser = await answer(conf, { headers: { 'User-Agent': 'Mozilla/5.0' } })
    expect(browser.reply).toBeUndefined()
  })

  test('header text from a client cannot end the header', async () => {
    const { gate } = await answer({ header: { value: '$arg_x' } }, { target: '/?x=a%0d%0aSet-Cookie:%20b' })
    expect(gate).toHaveLength(1)
    expect(gate[0]).not.toMatch(/[\r\n]/)
  })

  test('status and message are options', async () => {
    const conf = { refuse_when: [['arg_stop', '==', '1']], status: 418, message: 'no' }
    expect((await answer(conf, { target: '/?stop=1' })).reply).toEqual({ status: 418, body: '{"message":"no"}\n' })
  })

  test('refuses what makes no sense', async () => {
    const plugin = await example()
    expect(problemsOf(plugin, { refuse_when: [['a', 'xx', 'b']] })[0]).toMatch(/^refuse_when: .*invalid operator 'xx'/)
    expect(problemsOf(plugin, { header: { name: 'not a name' } })[0]).toMatch(/^header\.name: "not a name" is not a header name/)
    expect(problemsOf(plugin, { status: 200 })).toHaveLength(1)
  })
})
