/** A user plugin outside of the installation finds `sluice/plugin`: in the primary (check and reload) and in every worker. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Gateway } from '../support/gateway.js'

const source = `
import { definePlugin, PluginConfigError, Type } from 'sluice/plugin'

export const plugin = definePlugin({
  name: 'far-away',
  priority: 10,
  description: 'Answers with a text.',
  schema: Type.Object({ text: Type.String({ description: 'The text.' }) }),
  prepare(conf) {
    if (conf.text === 'refuse me') throw new PluginConfigError('this text is refused', 'text')
    return conf.text
  },
  link: (text) => ({ rewrite: () => ({ status: 200, body: text, headers: [['Content-Type', 'text/plain']] }) }),
})
`

let folder = ''
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sluice-plugin-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

function config(file: string, text: string): object {
  return { sluice: { plugins: [file] }, routes: [{ id: 'far', uri: '/*', plugins: { 'far-away': { text } } }] }
}

test('a started gateway loads it in primary and workers', async () => {
  const file = join(folder, 'plugin.mjs')
  await writeFile(file, source)
  const gateway = await Gateway.start({ config: config(file, 'hello from afar'), workers: 2 })
  try {
    const answer = async () => (await fetch(`${gateway.url}/x`, { headers: { connection: 'close' } })).text()
    // The kernel spreads connections over both workers.
    const answers = await Promise.all(Array.from({ length: 32 }, answer))
    expect(new Set(answers)).toEqual(new Set(['hello from afar']))
    // The error class is the gateway's own: it is told from a crash of the plugin, and the place is named.
    const refused = await gateway.reload(config(file, 'refuse me'))
    expect(refused.lastError).toContain('this text is refused')
    expect(await answer()).toBe('hello from afar')
    const accepted = await gateway.reload(config(file, 'hello again'))
    expect(accepted.lastError).toBeNull()
    expect(await answer()).toBe('hello again')
  } finally {
    expect((await gateway.stop()).code).toBe(0)
  }
})

test('a package that does not exist is still an error that names the file', async () => {
  const file = join(folder, 'plugin.mjs')
  await writeFile(file, "import 'sluice-package-that-does-not-exist'\n")
  await expect(Gateway.start({ config: config(file, 'x') })).rejects.toThrow(
    /plugin\.mjs: the plugin does not load: .*sluice-package-that-does-not-exist/,
  )
})
