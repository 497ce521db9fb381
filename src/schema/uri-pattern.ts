/**
 * URI patterns of routes: exact (`/a`), prefix (`/a*`, `/a/*`), and with `radixtree_uri_with_parameter` also `/user/:id` and
 * `/files/*rest`. One reading for validation, compiler and explanation.
 */
import type { RouterMode } from './compiled.js'

export type UriPattern =
  | { readonly kind: 'exact'; readonly path: string }
  | { readonly kind: 'prefix'; readonly path: string }
  /** In the mode with parameters, always. */
  | { readonly kind: 'segments'; readonly segments: readonly UriSegment[] }

export type UriSegment =
  | { readonly kind: 'static'; readonly text: string }
  | { readonly kind: 'param'; readonly name: string }
  /** Last segment; an empty name captures nothing. */
  | { readonly kind: 'tail'; readonly name: string }
  /** Last segment `text*`: matches the rest of the path if that starts with `text`. */
  | { readonly kind: 'prefix'; readonly text: string }

/** Name under which a bare `*` is captured, as in the reference gateway. */
export const tailName = ':ext'

/** The text of what makes a pattern unusable, or null. */
export function uriPatternProblem(uri: string, mode: RouterMode = 'radixtree_host_uri'): string | null {
  if (!uri.startsWith('/') && uri !== '*') return `${JSON.stringify(uri)} does not start with /`
  for (let index = 0; index < uri.length; index++) {
    const code = uri.charCodeAt(index)
    if (code <= 0x1f || code === 0x7f) return `${JSON.stringify(uri)} contains a control character; it can match no request`
  }
  if (mode !== 'radixtree_uri_with_parameter') return null
  const names = new Set<string>()
  const segments = uri.slice(1).split('/')
  for (const [index, segment] of segments.entries()) {
    if (segment.includes('*') && index < segments.length - 1) {
      return `${JSON.stringify(uri)}: * matches the rest of the path, so nothing may follow ${JSON.stringify(segment)}`
    }
    const isParam = segment.startsWith(':')
    if (!isParam && !segment.startsWith('*')) {
      if (segment.indexOf('*') >= 0 && segment.indexOf('*') < segment.length - 1) {
        return `${JSON.stringify(uri)}: nothing may follow * in ${JSON.stringify(segment)}; write the name in a segment of its own, /*name`
      }
      continue
    }
    const name = segment.slice(1)
    if (name === '' && !isParam) continue
    if (!/^\w+$/.test(name)) {
      return `${JSON.stringify(uri)}: ${JSON.stringify(segment)} has no valid name; expected letters, digits and _, for example :id`
    }
    if (names.has(name))
      return `${JSON.stringify(uri)}: the name ${JSON.stringify(name)} is used twice; captured values would overwrite each other`
    names.add(name)
  }
  return null
}

/** What no canonical path contains, whatever the options of the router. */
const unmatchable = /%(?!2F|25)|\/\.\.?(?:\/|$)/

/** The text of what is valid but surprising about a pattern, or null. */
export function uriPatternWarning(uri: string, mode: RouterMode = 'radixtree_host_uri'): string | null {
  const hasParameters = mode === 'radixtree_uri_with_parameter'
  const star = uri.indexOf('*')
  const isCut = !hasParameters && star >= 0 && star < uri.length - 1
  const read = isCut ? uri.slice(0, star + 1) : uri
  if (unmatchable.test(read)) {
    return (
      `${JSON.stringify(uri)}: no request can match, because paths are compared decoded and normalised; expected characters instead of ` +
      'their percent-encodings (only %2F and %25 stay), and no segments . and ..'
    )
  }
  if (hasParameters) return null
  if (isCut) {
    return (
      `${JSON.stringify(uri)}: everything after the first * is ignored; this matches the same as ${JSON.stringify(read)}; ` +
      'expected a pattern that ends with its first *'
    )
  }
  if (/\/:\w/.test(uri)) {
    return `${JSON.stringify(uri)}: parameters are read only by the router radixtree_uri_with_parameter; here : is an ordinary character`
  }
  return null
}

/** Reads a pattern that has no problem in this mode. */
export function readUriPattern(uri: string, mode: RouterMode): UriPattern {
  if (mode === 'radixtree_uri_with_parameter') {
    return { kind: 'segments', segments: uri === '*' ? [readSegment(uri)] : uri.slice(1).split('/').map(readSegment) }
  }
  const star = uri.indexOf('*')
  if (star < 0) return { kind: 'exact', path: uri }
  return { kind: 'prefix', path: uri.slice(0, star) }
}

function readSegment(segment: string): UriSegment {
  if (segment.startsWith(':')) return { kind: 'param', name: segment.slice(1) }
  if (segment.startsWith('*')) return { kind: 'tail', name: segment.length > 1 ? segment.slice(1) : tailName }
  if (segment.endsWith('*')) return { kind: 'prefix', text: segment.slice(0, -1) }
  return { kind: 'static', text: segment }
}

/** What a path gives the names of a pattern (empty without names), or null if the pattern does not match. One pattern at a time: slow. */
export function matchUriPattern(pattern: UriPattern, path: string): Map<string, string> | null {
  const captured = new Map<string, string>()
  if (pattern.kind === 'exact') return pattern.path === path ? captured : null
  if (pattern.kind === 'prefix') return path.startsWith(pattern.path) ? captured : null
  const found = path.slice(1).split('/')
  for (const [index, segment] of pattern.segments.entries()) {
    const value = found[index]
    if (value === undefined) return null
    if (segment.kind === 'tail') return captured.set(segment.name, found.slice(index).join('/'))
    if (segment.kind === 'prefix') return value.startsWith(segment.text) ? captured : null
    if (segment.kind === 'param' ? value === '' : value !== segment.text) return null
    if (segment.kind === 'param') captured.set(segment.name, value)
  }
  return found.length === pattern.segments.length ? captured : null
}

/** A host pattern: exact, or the end of a host behind a leading `*`. */
export interface HostPattern {
  readonly text: string
  readonly isSuffix: boolean
  /** Compared with the Host header as a whole, port included. */
  readonly withPort: boolean
}

/** Reads a host pattern. `[::1]` has no port; `[::1]:80` and `a.test:80` have one. */
export function readHostPattern(host: string): HostPattern {
  const lower = host.toLowerCase()
  const isSuffix = lower.startsWith('*')
  const text = isSuffix ? lower.slice(1) : lower
  return { text, isSuffix, withPort: /:\d+$/.test(text) && !(text.startsWith('[') && text.endsWith(']')) }
}

/** True if the pattern accepts a request's host (lower-case, no port) or Host field (lower-case, as received). */
export function matchHostPattern(pattern: HostPattern, host: string, hostHeader: string): boolean {
  const value = pattern.withPort ? hostHeader : host
  return pattern.isSuffix ? value.endsWith(pattern.text) : value === pattern.text
}
