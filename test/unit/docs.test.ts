/** The documentation against the product: its configurations pass the check, its commands and flags exist, its links lead somewhere. */
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { runCommandLine } from '../../src/cli/program.js'
import { readyLine } from '../../src/cli/ready-line.js'
import { checkConfiguration } from '../../src/controlplane/check.js'
import { formatIssue } from '../../src/controlplane/load-issue.js'
import { TestAuthority } from '../support/tls-certificates.js'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const pages = ['README.md', 'ARCHITECTURE.md', 'CHANGELOG.md', 'config/plugins/README.md', ...pagesIn('docs')]

function pagesIn(folder: string): string[] {
  return readdirSync(join(ROOT, folder))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `${folder}/${name}`)
}

function textOf(page: string): string {
  return readFileSync(join(ROOT, page), 'utf8')
}

interface Snippet {
  readonly page: string
  readonly line: number
  readonly language: string
  readonly text: string
}

function snippetsOf(page: string): Snippet[] {
  const text = textOf(page)
  return [...text.matchAll(/^( *)```(\w*)\n(.*?)^ *```$/gms)].map((match) => ({
    page,
    line: text.slice(0, match.index).split('\n').length,
    language: match[2] ?? '',
    text: (match[3] ?? '').replaceAll(`\n${match[1]}`, '\n').slice(match[1]?.length ?? 0),
  }))
}

const folder = mkdtempSync(join(tmpdir(), 'sluice-docs-'))
afterAll(() => rmSync(folder, { recursive: true }))

describe('configurations', () => {
  // Pages about limits show parts of files; they are checked where limits are.
  const configurations = pages
    .filter((page) => !page.startsWith('docs/rate-limiting'))
    .flatMap(snippetsOf)
    .filter(({ language }) => language === 'yaml')

  /** Files that the snippets name, relative to the configuration. */
  beforeAll(async () => {
    const pair = await (await TestAuthority.create()).issue('shop.example.com')
    mkdirSync(join(folder, 'tls'))
    writeFileSync(join(folder, 'tls', 'default.pem'), pair.cert)
    writeFileSync(join(folder, 'tls', 'default.key'), pair.key)
    cpSync(join(ROOT, 'config', 'plugins'), join(folder, 'plugins'), { recursive: true })
  })

  test('there are some', () => {
    expect(configurations.length).toBeGreaterThanOrEqual(4)
  })

  test.each(configurations.map((snippet) => [`${snippet.page}:${snippet.line}`, snippet.text] as const))('%s is right', async (_, text) => {
    const file = join(folder, 'snippet.yaml')
    writeFileSync(file, text)
    const result = await checkConfiguration(file, {})
    expect(result.ok ? [] : result.errors.map(formatIssue)).toEqual([])
    expect(result.warnings.map(formatIssue)).toEqual([])
  })
})

async function help(...args: string[]): Promise<string> {
  let text = ''
  const write = vi.spyOn(process.stdout, 'write').mockImplementation((chunk) => {
    text += String(chunk)
    return true
  })
  try {
    expect(await runCommandLine([...args, '--help'])).toBe(0)
  } finally {
    write.mockRestore()
  }
  return text
}

describe('the command line', () => {
  /** What stands in code, the only place where a command is meant to be typed. */
  const code = pages.flatMap((page) => [
    ...[...textOf(page).matchAll(/(?<!`)`([^`\n]+)`(?!`)/g)].map((match) => match[1] ?? ''),
    ...snippetsOf(page)
      .filter(({ language }) => language !== 'yaml')
      .map(({ text }) => text),
  ])
  let commands: string[] = []
  let flags = new Set<string>()

  beforeAll(async () => {
    const top = await help()
    const list = top.slice(top.indexOf('\nCommands:'), top.indexOf('\nExamples:'))
    commands = [...list.matchAll(/^ {2}([a-z]+) /gm)].flatMap((match) => match[1] ?? []).filter((name) => name !== 'help')
    const texts = [top]
    for (const command of commands) texts.push(await help(command))
    flags = new Set(texts.flatMap((text) => [...text.matchAll(/(?<![\w-])--[a-z][a-z-]*/g)].map((match) => match[0])))
  })

  test('every command that is named exists', () => {
    const named = code.flatMap((text) => [...text.matchAll(/(?:^|\s)(?:sluice|dist\/main\.js) ([a-z]+)/g)].map((match) => match[1] ?? ''))
    expect(named.length).toBeGreaterThan(5)
    expect(named.filter((name) => !commands.includes(name))).toEqual([])
  })

  test('every flag that is named exists', () => {
    const foreign = new Set(['--omit', '--now', '--system', '--quick'])
    const named = code.flatMap((text) => [...text.matchAll(/(?<![\w-])--[a-z][a-z-]*/g)].map((match) => match[0]))
    expect(named.length).toBeGreaterThan(10)
    expect(named.filter((name) => !flags.has(name) && !foreign.has(name))).toEqual([])
  })

  test('the README names every command', () => {
    const readme = textOf('README.md')
    expect(commands.filter((name) => !readme.includes(`sluice ${name}`) && !readme.includes(`run ${name}`))).toEqual([])
  })

  test('the ready line of the README is the one that is printed', () => {
    const listener = { host: '127.0.0.1', port: 9080, tls: null }
    const metrics = { host: '127.0.0.1', port: 9091 }
    const facts = {
      version: '0.1.0',
      listeners: [listener],
      admin: null,
      metrics,
      workers: 4,
      accept: 'kernel' as const,
      bindingVersion: '1.5.0',
    }
    expect(textOf('README.md')).toContain(`\n${readyLine(facts)}\n`)
  })
})

test('bounds that the README names are the defaults', () => {
  const reference = textOf('config/reference/sluice.md')
  const defaultOf = (option: string) => Number(new RegExp(`^\\| \`${option}\` \\|[^|]*\\| \`(\\d+)\` \\|`, 'm').exec(reference)?.[1])
  const bounds = `header block ${defaultOf('limits.max_header_size') / 1024} KiB and ${defaultOf('limits.max_header_count')} fields (431), target ${
    defaultOf('limits.max_target_size') / 1024
  } KiB (414)`
  expect(textOf('README.md').replace(/\s+/g, ' ')).toContain(bounds)
  expect(textOf('README.md')).toContain(`${defaultOf('limits.max_connections').toLocaleString('en-US')} client connections`)
})

describe('links', () => {
  const anchorsOf = (page: string): string[] =>
    [...textOf(page).matchAll(/^#+ (.+)$/gm)].map((match) =>
      (match[1] ?? '')
        .toLowerCase()
        .replace(/[^\w\- ]/g, '')
        .replaceAll(' ', '-'),
    )

  test.each(pages)('%s', (page) => {
    const targets = [...textOf(page).matchAll(/\]\(([^)\s]+)\)/g)].map((match) => match[1] ?? '')
    const broken = targets.filter((target) => {
      if (/^https?:/.test(target)) return false
      const [path = '', anchor] = target.split('#')
      const file = path === '' ? page : join(dirname(page), path)
      return !existsSync(join(ROOT, file)) || (anchor !== undefined && !anchorsOf(file).includes(anchor))
    })
    expect(broken).toEqual([])
  })

  test('scripts and folders that the README names exist', () => {
    const named = [...textOf('README.md').matchAll(/\b(?:scripts|native-bench|config)\/[\w./-]*\w/g)].map((match) => match[0])
    expect(named.length).toBeGreaterThan(10)
    expect(named.filter((path) => !existsSync(join(ROOT, path)) && path !== 'native-bench/results')).toEqual([])
  })
})
