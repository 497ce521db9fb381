/** Lists of the Admin API: filters and pages. */
import { compilePattern } from '../../base/pattern.js'
import type { StoredResource } from '../store/resource-store.js'

export interface ListPage {
  readonly items: readonly StoredResource[]
  /** Before pages were made. */
  readonly total: number
}

const PAGE_SIZE_MIN = 10
const PAGE_SIZE_MAX = 500

/** The page that `query` asks for, of resources in the order of their creation; or why there is none. */
export function pageOf(all: readonly StoredResource[], query: URLSearchParams): ListPage | string {
  const items = filtered(all, query)
  const size = query.get('page_size')
  const page = query.get('page')
  if (page === null || size === null) return { items, total: items.length }
  const count = Number(size)
  if (!(count >= PAGE_SIZE_MIN && count <= PAGE_SIZE_MAX)) return `page_size must be between ${PAGE_SIZE_MIN} and ${PAGE_SIZE_MAX}`
  const number = Math.max(1, Math.floor(Number(page)) || 1)
  const from = (number - 1) * Math.floor(count)
  return { items: items.slice(from, from + Math.floor(count)), total: items.length }
}

function filtered(all: readonly StoredResource[], query: URLSearchParams): readonly StoredResource[] {
  const tests: ((resource: StoredResource) => boolean)[] = []
  const name = query.get('name')
  if (name !== null) {
    const matches = finds(name)
    tests.push(({ value }) => matches(value['name']))
  }
  const label = query.get('label')
  if (label !== null) tests.push(({ value }) => hasLabel(value['labels'], label))
  const uri = query.get('uri')
  if (uri !== null) {
    const matches = finds(uri)
    tests.push(({ value }) => [value['uri'], ...(Array.isArray(value['uris']) ? value['uris'] : [])].some(matches))
  }
  for (const [field, wanted] of new URLSearchParams(query.get('filter') ?? '')) {
    tests.push(({ value }) => value[field] !== undefined && String(value[field]) === wanted)
  }
  return tests.length === 0 ? all : all.filter((resource) => tests.every((test) => test(resource)))
}

/** Looks for a pattern; what is none is looked for as it stands. */
function finds(wanted: string): (text: unknown) => boolean {
  let matches: (text: string) => boolean
  try {
    const pattern = compilePattern(wanted)
    matches = (text) => text.includes(wanted) || pattern.test(text)
  } catch {
    matches = (text) => text.includes(wanted)
  }
  return (text) => typeof text === 'string' && matches(text)
}

/** `name`, or `name:value`. */
function hasLabel(labels: unknown, wanted: string): boolean {
  if (typeof labels !== 'object' || labels === null) return false
  const colon = wanted.indexOf(':')
  const name = colon === -1 ? wanted : wanted.slice(0, colon)
  if (!Object.hasOwn(labels, name)) return false
  return colon === -1 || Reflect.get(labels, name) === wanted.slice(colon + 1)
}
