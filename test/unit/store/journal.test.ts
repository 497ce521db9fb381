import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { JournalWriter, parseJournal, readJournal } from '../../../src/controlplane/store/journal.js'

let folder = ''
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'sluice-journal-'))
})
afterAll(() => rm(folder, { recursive: true }))

async function written(name: string, values: readonly unknown[]): Promise<string> {
  const file = join(folder, name)
  const writer = await JournalWriter.open(file, await readJournal(file))
  for (const value of values) await writer.append(value)
  await writer.close()
  return file
}

const values = [{ a: 1 }, { b: 'zwei\u0000', list: [1, 2, 3] }, { c: 'ü'.repeat(40) }, 4]

test('cut off at any byte, the records before the cut are all there and nothing else', async () => {
  const file = await written('whole', values)
  const bytes = await readFile(file)
  expect(parseJournal(bytes, file)).toEqual({ records: values, validBytes: bytes.length, tornBytes: 0 })
  let before = 0
  for (let length = 0; length < bytes.length; length++) {
    const content = parseJournal(bytes.subarray(0, length), file)
    expect(content.records).toEqual(values.slice(0, content.records.length))
    expect(content.records.length).toBeGreaterThanOrEqual(before)
    expect(content.validBytes + content.tornBytes).toBe(length)
    before = content.records.length
  }
  expect(before).toBe(values.length - 1)
})

test('what is written behind a torn record stands behind the last whole one', async () => {
  const bytes = await readFile(await written('source', values))
  for (const length of [0, 5, 8, 9, 27, 28, 60, bytes.length - 1]) {
    const file = join(folder, `cut-${length}`)
    await writeFile(file, bytes.subarray(0, length))
    const { records } = await readJournal(file)
    await written(`cut-${length}`, [{ new: true }])
    expect((await readJournal(file)).records).toEqual([...records, { new: true }])
  }
})

test('a tail of zeros, or of anything else, is torn', async () => {
  const file = await written('tail', values)
  const bytes = await readFile(file)
  for (const tail of [Buffer.alloc(4096), Buffer.from('{"a":1}'), Buffer.alloc(100, 0xff)]) {
    const content = parseJournal(Buffer.concat([bytes, tail]), file)
    expect(content).toEqual({ records: values, validBytes: bytes.length, tornBytes: tail.length })
  }
})

test('a damaged byte in the middle is an error that names the place, in the last record it is torn', async () => {
  const file = await written('damaged', values)
  const bytes = await readFile(file)
  const lengths = values.map((value) => 20 + Buffer.byteLength(JSON.stringify(value)))
  const last = 8 + lengths.slice(0, -1).reduce((sum, length) => sum + length, 0)
  for (let at = 8; at < bytes.length; at++) {
    const changed = Buffer.from(bytes)
    changed.writeUInt8(bytes.readUInt8(at) ^ 0x40, at)
    if (at < last) expect(() => parseJournal(changed, file), `byte ${at}`).toThrow(/damaged at byte \d+/)
    else expect(parseJournal(changed, file).records).toEqual(values.slice(0, -1))
  }
})

test('a file of something else is refused', async () => {
  const file = join(folder, 'foreign')
  await writeFile(file, 'routes: []\n')
  await expect(readJournal(file)).rejects.toThrow(/not a journal/)
})

test('a rewritten journal holds the new records only, takes more, and is for its owner alone', async () => {
  const file = join(folder, 'rewritten')
  const writer = await JournalWriter.open(file, await readJournal(file))
  for (const value of values) await writer.append(value)
  await writer.rewrite([{ all: 'of it' }])
  await writer.append({ more: 1 })
  expect(writer.size).toBe((await stat(file)).size)
  await writer.close()
  expect((await readJournal(file)).records).toEqual([{ all: 'of it' }, { more: 1 }])
  expect((await stat(file)).mode & 0o777).toBe(0o600)
})

test('a rewrite that fails leaves the old journal', async () => {
  const file = join(folder, 'kept')
  const writer = await JournalWriter.open(file, await readJournal(file))
  await writer.append(values[0])
  const failing = function* () {
    yield { half: true }
    throw new Error('no more')
  }
  await expect(writer.rewrite(failing())).rejects.toThrow('no more')
  await writer.append(values[1])
  await writer.close()
  expect((await readJournal(file)).records).toEqual(values.slice(0, 2))
})
