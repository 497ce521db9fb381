/**
 * The rules of the house, checked on the syntax tree of every source file: who may import whom (ARCHITECTURE.md), what has a single
 * home, what is banned, how large a file may be. A rule that must be broken goes into a list here, with its reason.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { parseAst } from 'vitest/node'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))

interface Node {
  readonly type: string
  readonly start: number
  readonly [field: string]: unknown
}

interface Source {
  /** Path from the root of the repository, with `/`. */
  readonly path: string
  readonly text: string
  readonly nodes: readonly Node[]
}

function isNode(value: unknown): value is Node {
  return typeof value === 'object' && value !== null && 'type' in value && typeof value.type === 'string'
}

/** All nodes below and including this one. */
function flatten(root: unknown): Node[] {
  const nodes: Node[] = []
  const open: unknown[] = [root]
  while (open.length > 0) {
    const value = open.pop()
    if (isNode(value)) nodes.push(value)
    if (typeof value === 'object' && value !== null) open.push(...Object.values(value))
  }
  return nodes
}

function sourcesOf(folder: string): Source[] {
  return readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => {
      const file = join(entry.parentPath, entry.name)
      const text = readFileSync(file, 'utf8')
      return { path: relative(ROOT, file).split(sep).join('/'), text, nodes: flatten(parseAst(text, { lang: 'ts' })) }
    })
    .sort((a, b) => (a.path < b.path ? -1 : 1))
}

const product = sourcesOf('src')
const all = [...product, ...sourcesOf('test')]

function place(source: Source, node: Node): string {
  return `${source.path}:${source.text.slice(0, node.start).split('\n').length}`
}

/** Places of the nodes that break a rule. */
function offences(sources: readonly Source[], breaks: (node: Node, source: Source) => boolean): string[] {
  return sources.flatMap((source) => source.nodes.filter((node) => breaks(node, source)).map((node) => place(source, node)))
}

interface Import {
  readonly source: Source
  readonly node: Node
  /** A path from the root for files of ours, else the specifier. */
  readonly target: string
  readonly isOurs: boolean
  readonly isType: boolean
}

const importing = new Set(['ImportDeclaration', 'ExportNamedDeclaration', 'ExportAllDeclaration', 'ImportExpression'])

function importsOf(source: Source): Import[] {
  return source.nodes.flatMap((node) => {
    if (!importing.has(node.type) || !isNode(node['source'])) return []
    const specifier = node['source']['value']
    if (typeof specifier !== 'string') return []
    const isOurs = specifier.startsWith('.')
    const target = isOurs ? join(dirname(source.path), specifier).split(sep).join('/') : specifier
    const specifiers = Array.isArray(node['specifiers']) ? node['specifiers'] : []
    const kinds = [node['importKind'], node['exportKind']]
    const each =
      specifiers.length > 0 && specifiers.every((one) => isNode(one) && (one['importKind'] === 'type' || one['exportKind'] === 'type'))
    return [{ source, node, target, isOurs, isType: kinds.includes('type') || each }]
  })
}

/**
 * Folder of src to what it may import besides itself: folders, or files by their path below src; `type:` = types only. From the
 * ground up: base, schema, limits (the arithmetic of limits), shared and cluster (where counters live), then the rest.
 */
const mayImport: { readonly [folder: string]: readonly string[] | 'everything' } = {
  base: [],
  schema: ['base'],
  auth: ['base', 'type:schema', 'shared'],
  breakers: [],
  shared: ['base', 'type:schema', 'limits', 'breakers'],
  cluster: ['base', 'type:schema', 'limits', 'breakers'],
  limits: ['base', 'schema'],
  telemetry: ['base', 'shared', 'type:schema', 'breakers'],
  dataplane: ['base', 'auth', 'schema', 'shared', 'limits', 'breakers', 'telemetry', 'plugins/plugin.js'],
  controlplane: [
    'base',
    'schema',
    'shared',
    'limits',
    'breakers',
    'telemetry',
    'plugins/index.js',
    'plugins/plugin.js',
    'plugins/registry.js',
    'plugins/user-plugins.js',
  ],
  demo: ['base'],
  doctor: 'everything',
  threads: 'everything',
  cli: 'everything',
}

/** Files of src/plugins that are the machinery around plugins, not plugins. */
const pluginMachinery = new Set(['index', 'plugin', 'registry', 'resolve-hook', 'user-plugins'])

/** Plugins that share the folder of another one, because they are faces of one engine: may import that folder too. */
const sharedFolders: { readonly [plugin: string]: string } = {
  'key-auth': 'auth',
  'basic-auth': 'auth',
  'hmac-auth': 'auth',
  jwt: 'auth',
  'jwt-auth': 'auth',
  'forward-auth': 'external-auth',
  opa: 'external-auth',
  'rate-limit': 'rate-limiting',
  'rate-limiting-advanced': 'rate-limiting',
  'sliding-window-rate-limit': 'rate-limiting',
}

/** Importers and what they import although the table says no, each with its reason. */
const importExceptions: { readonly [pair: string]: string } = {}

function isForbidden({ source, target, isType }: Import): boolean {
  const [, folder = '', ...rest] = source.path.split('/')
  if (rest.length === 0) return false
  const below = target.replace(/^src\//, '')
  if (folder === 'plugins') {
    const own = (rest[0] ?? '').replace(/\.ts$/, '')
    if (own === 'plugin') return !/^(base|schema|limits|auth|breakers)\//.test(below)
    if (pluginMachinery.has(own)) return !/^(base|schema|plugins)\//.test(below)
    const shared = sharedFolders[own]
    if (shared !== undefined && below.startsWith(`plugins/${shared}/`)) return false
    return below !== 'plugins/plugin.js' && below !== `plugins/${own}.js` && !below.startsWith(`plugins/${own}/`)
  }
  const allowed = mayImport[folder]
  if (allowed === undefined) throw new Error(`src/${folder} is not in the table of test/unit/house.test.ts (and ARCHITECTURE.md)`)
  if (allowed === 'everything' || below.startsWith(`${folder}/`)) return false
  return !allowed.some((entry) => {
    const [kind, name] = entry.startsWith('type:') ? ['type', entry.slice(5)] : ['value', entry]
    return (kind === 'value' || isType) && (below === name || below.startsWith(`${name}/`))
  })
}

describe('who may import whom (ARCHITECTURE.md)', () => {
  const imports = product.flatMap(importsOf).filter((one) => one.isOurs)

  test('the table holds', () => {
    expect(imports.length).toBeGreaterThan(100)
    const broken = imports
      .filter((one) => isForbidden(one) && importExceptions[`${one.source.path} > ${one.target}`] === undefined)
      .map((one) => `${place(one.source, one.node)} may not import ${one.target}`)
    expect(broken, 'imports that the table of ARCHITECTURE.md does not allow').toEqual([])
  })

  test('no exception is listed that nobody needs', () => {
    const needed = new Set(imports.filter(isForbidden).map((one) => `${one.source.path} > ${one.target}`))
    expect(Object.keys(importExceptions).filter((pair) => !needed.has(pair))).toEqual([])
  })

  test('the check sees what it is to see', () => {
    const text =
      "import { a } from '../controlplane/a.js'\nimport type { b } from '../schema/b.js'\nimport { type c } from '../schema/b.js'\n"
    const as = (path: string) => importsOf({ path, text, nodes: flatten(parseAst(text, { lang: 'ts' })) }).filter(isForbidden)
    expect(as('src/dataplane/x.ts').map((one) => one.target)).toEqual(['src/controlplane/a.js'])
    expect(as('src/telemetry/x.ts').map((one) => one.target)).toEqual(['src/controlplane/a.js'])
    expect(as('src/base/x.ts')).toHaveLength(3)
    expect(as('src/plugins/cors.ts')).toHaveLength(3)
  })
})

const isName = (node: Node, ...names: string[]): boolean =>
  node.type === 'Identifier' && typeof node['name'] === 'string' && names.includes(node['name'])

const memberOf = (node: Node): string =>
  node.type === 'MemberExpression' && isNode(node['object']) && isNode(node['property'])
    ? `${String(node['object']['name'])}.${String(node['property']['name'])}`
    : ''

const outside = (...homes: string[]): Source[] => product.filter(({ path }) => !homes.some((home) => path.startsWith(home)))

describe('single homes', () => {
  test('Atomics, and making shared memory: shared/ (types may be named where handles are passed)', () => {
    const found = offences(outside('src/shared/'), (node) => {
      if (node.type === 'NewExpression' && isNode(node['callee'])) return isName(node['callee'], 'SharedArrayBuffer')
      return memberOf(node).startsWith('Atomics.')
    })
    expect(found, 'use src/shared/regions.ts').toEqual([])
  })

  test('postMessage: threads/', () => {
    expect(
      offences(outside('src/threads/'), (node) => isName(node, 'postMessage')),
      'send through src/threads',
    ).toEqual([])
  })

  test('the uWebSockets.js binding: dataplane/listener/binding.ts', () => {
    const packages = new Set(['uWebSockets.js', 'uws-unofficial'])
    const found = outside('src/dataplane/listener/binding.ts')
      .flatMap(importsOf)
      .filter((one) => packages.has(one.target))
    expect(
      found.map((one) => place(one.source, one.node)),
      'use loadBinding()',
    ).toEqual([])
  })

  test('what is inside Node: dataplane/tcp/handle.ts', () => {
    const isInside = (node: Node): boolean => node.type === 'Literal' && /^(tcp|pipe|stream)_wrap$/.test(String(node['value']))
    expect(offences(outside('src/dataplane/tcp/handle.ts'), isInside), 'use rawSockets()').toEqual([])
  })

  test('the time: base/clock.ts', () => {
    const clocks = new Set(['Date.now', 'performance.now', 'process.hrtime'])
    const found = offences(outside('src/base/clock.ts'), (node) => {
      if (node.type === 'NewExpression' && isNode(node['callee']) && isName(node['callee'], 'Date')) {
        return Array.isArray(node['arguments']) && node['arguments'].length === 0
      }
      return clocks.has(memberOf(node))
    })
    expect(found, 'use nowMs() and wallMs(), or a Clock that is passed in').toEqual([])
  })

  test('the environment: main.ts, cli/ and what starts processes', () => {
    const homes = ['src/main.ts', 'src/cli/', 'src/threads/supervise.ts', 'src/threads/notify.ts', 'src/doctor/gateway-process.ts']
    expect(
      offences(outside(...homes), (node) => memberOf(node) === 'process.env'),
      'take it as a parameter',
    ).toEqual([])
  })

  test('Redis: cluster/', () => {
    const packages = new Set(['ioredis', 'cluster-key-slot'])
    const found = outside('src/cluster/')
      .flatMap(importsOf)
      .filter((one) => packages.has(one.target))
    expect(
      found.map((one) => place(one.source, one.node)),
      'use src/cluster',
    ).toEqual([])
  })
})

/** Files that may hold `any`, `!` and the like, each with its reason. */
const styleExceptions: { readonly [path: string]: string } = {}

describe('style', () => {
  const sources = all.filter(({ path }) => styleExceptions[path] === undefined)
  const rules: readonly (readonly [string, (node: Node) => boolean])[] = [
    ['no `any`: name the type, or use unknown', (node) => node.type === 'TSAnyKeyword'],
    ['no non-null `!`: check, or give a default', (node) => node.type === 'TSNonNullExpression'],
    ['no default export: export by name', (node) => node.type === 'ExportDefaultDeclaration'],
    ['no console: use the process log', (node) => memberOf(node).startsWith('console.')],
    [
      'no eval and no code from text',
      (node) => node.type === 'NewExpression' && isNode(node['callee']) && isName(node['callee'], 'Function'),
    ],
    [
      'no `as unknown as`: a cast that big hides a wrong type',
      (node) =>
        node.type === 'TSAsExpression' &&
        isNode(node['expression']) &&
        node['expression'].type === 'TSAsExpression' &&
        isNode(node['expression']['typeAnnotation']) &&
        node['expression']['typeAnnotation'].type === 'TSUnknownKeyword',
    ],
  ]

  test.each(rules)('%s', (rule, breaks) => {
    expect(offences(sources, breaks), rule).toEqual([])
  })

  test('the rules see what they are to see', () => {
    const text =
      "const a: any = b!.c as unknown as D\nconsole.log(new Function('x'))\nexport default a\n// any! console.log\nconst s = 'any! console.log'\n"
    const nodes = flatten(parseAst(text, { lang: 'ts' }))
    for (const [rule, breaks] of rules) expect(nodes.filter(breaks), rule).toHaveLength(1)
  })

  test('no drawer files: a file is named for what it holds', () => {
    expect(all.map(({ path }) => path).filter((path) => /(^|\/)(utils?|helpers?|misc|common-utils)\.ts$/.test(path))).toEqual([])
  })
})

const LINES_MAX = 400
const LINES_MAX_WITH_REASON = 600

/** Files above 400 lines (never above 600), each with its reason. */
const longFiles: { readonly [path: string]: string } = {
  'src/cli/gateway.ts': 'starts, reloads and ends every part of the process, in one order',
  'src/plugins/plugin.ts': 'the contract, which plugin writers read as one page',
  'src/threads/supervisor.ts': 'the lives of all threads, whose states depend on one another',
  'src/threads/worker.ts': 'the one place where the parts of a worker are made and messages go to them',
  'src/dataplane/proxy.ts': 'the whole life of an exchange and all of its branches, to be read in one place',
  'src/dataplane/response/writer.ts': 'every way in which an answer leaves; they share the corked functions and their state',
  'src/dataplane/listener/tcp-connection.ts': 'one state machine: what was read, answered and written on one connection',
  'src/dataplane/upstream/connection.ts': 'one state machine: what was sent and what came back on one connection',
}

describe('size', () => {
  const lines = new Map(product.map(({ path, text }) => [path, text.split('\n').length - 1]))

  test(`files of src have at most ${LINES_MAX} lines, with a reason ${LINES_MAX_WITH_REASON}`, () => {
    const long = [...lines].filter(([path, count]) => count > (longFiles[path] === undefined ? LINES_MAX : LINES_MAX_WITH_REASON))
    expect(long, 'split it, or give the reason in longFiles').toEqual([])
  })

  test('the list of long files is about files that exist', () => {
    expect(Object.keys(longFiles).filter((path) => !lines.has(path))).toEqual([])
  })
})
