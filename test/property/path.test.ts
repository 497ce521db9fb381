/** What the router matched is what the upstream receives. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { CanonicalPath, canonicalPath, type PathPolicy } from '../../src/base/path.js'

const seed = 20_240_702

const piece = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom('a', 'b1', '~', ':', '@', '+', '=', '$', '*', 'ö', '"', '<') },
  { weight: 4, arbitrary: fc.constantFrom('/', '/', '//', '.', '..', '/../', '/./', ';', ';x=1', '..;') },
  {
    weight: 4,
    arbitrary: fc.constantFrom('%20', '%2F', '%2f', '%25', '%252F', '%2e', '%2E%2e', '%3B', '%C3%A9', '%f0%9f%98%80', '%41', '%23', '%3f'),
  },
  { weight: 1, arbitrary: fc.constantFrom('%', '%0', '%zz', '%00', '%1f', '%5c', '%c0%af', '%ed%a0%80', '\\', '#', ' ', '%7f', '%ff') },
)
const raw = fc.array(piece, { maxLength: 10 }).map((pieces) => `/${pieces.join('')}`)
const policy: fc.Arbitrary<PathPolicy> = fc.record({
  encodedSlash: fc.constantFrom('keep', 'reject', 'decode'),
  doubleSlash: fc.constantFrom('merge', 'keep', 'reject'),
  deleteTailSlash: fc.boolean(),
  servlet: fc.boolean(),
})

/** Decoding as a plain reading of the policy: everything once, but what stays encoded in matching. */
function decode(forward: string, { encodedSlash }: PathPolicy): string {
  if (encodedSlash !== 'keep') return decodeURIComponent(forward)
  return forward
    .split(/(%2[fF]|%25)/)
    .map((part, index) => (index % 2 === 1 ? part.toUpperCase() : decodeURIComponent(part)))
    .join('')
}

/** Nothing in here is rewritten by any rule. */
function isUntouched(path: string, { encodedSlash, servlet }: PathPolicy): boolean {
  if (path.includes('//') || (servlet && path.includes(';'))) return false
  if (encodedSlash === 'decode' && /%2f/i.test(path)) return false
  return !path.split('/').some((segment) => segment === '.' || segment === '..')
}

test(`canonical paths are fixed points that decode to what was matched (seed ${seed})`, () => {
  let accepted = 0
  fc.assert(
    fc.property(raw, policy, (path, rules) => {
      const first = new CanonicalPath()
      if (!canonicalPath(path, rules, first)) {
        expect(first.problem).not.toBe('')
        expect(first.forward).toBe('')
        return
      }
      accepted++
      expect(first.problem).toBe('')
      const second = new CanonicalPath()
      expect(canonicalPath(first.forward, rules, second), second.problem).toBe(true)
      expect(second.forward).toBe(first.forward)
      expect(second.match).toBe(first.match)
      const decoded = decode(first.forward, rules)
      expect(first.match).toBe(rules.deleteTailSlash && decoded.length > 1 && decoded.endsWith('/') ? decoded.slice(0, -1) : decoded)
      if (isUntouched(path, rules)) expect(first.forward).toBe(path)
      expect(first.forward.split('/').some((segment) => /^(?:\.|%2e){1,2}(?:;|$)/i.test(segment))).toBe(false)
    }),
    { seed, numRuns: 6000 },
  )
  expect(accepted).toBeGreaterThan(1000)
})
