/**
 * Decides whether JavaScript's backtracking RegExp runs a pattern in linear time on every input.
 *
 * The tree is written out as the straight paths a backtracking engine could try (at most `maxPaths`); the cost of the pattern is at
 * most the sum of theirs. On one path, giving a character back from an unbounded repetition costs one step when what follows cannot
 * begin with a character of the repetition ("settled"): all settled repetitions of a path add up to one pass. One unsettled
 * repetition is also fine, if no other unbounded one is behind it that could fail. Anything else might be quadratic or worse, and
 * goes to RE2 instead. A path that does not start with `^` is tried at every position, so it may not repeat without bound at all,
 * unless the repetition is the last thing of the path, where it cannot fail.
 */
import { allMask, type CharMask, newlineMask, type ParsedPattern, type PatternNode, type PatternTree } from './pattern-syntax.js'

type Step =
  | { readonly kind: 'one'; readonly mask: CharMask }
  /** Repetition of one set; `choices` is Infinity when it has no bound. */
  | { readonly kind: 'many'; readonly mask: CharMask; readonly choices: number }
  | { readonly kind: 'start' | 'end' | 'boundary' }
  /** Look-around; `linear` when it may itself take a pass over the input. */
  | { readonly kind: 'look'; readonly linear: boolean }

type Path = readonly Step[]

const maxPaths = 64
const maxSteps = 2000
const maxChoices = 64

class Unprovable extends Error {}

export function isLinear(pattern: ParsedPattern): boolean {
  try {
    const paths = expand(pattern.tree, pattern)
    return paths.every((path) => isLinearPath(path, pattern.multiline))
  } catch (error) {
    if (error instanceof Unprovable) return false
    throw error
  }
}

function expand(tree: PatternTree, pattern: ParsedPattern): Path[] {
  const paths = tree.flatMap((sequence) => {
    let prefixes: Path[] = [[]]
    for (const node of sequence) prefixes = product(prefixes, expandNode(node, pattern))
    return prefixes
  })
  if (paths.length > maxPaths) throw new Unprovable()
  return paths
}

function product(left: readonly Path[], right: readonly Path[]): Path[] {
  if (left.length * right.length > maxPaths) throw new Unprovable()
  const joined = left.flatMap((head) => right.map((tail) => [...head, ...tail]))
  if (joined.some((path) => path.length > maxSteps)) throw new Unprovable()
  return joined
}

function expandNode(node: PatternNode, pattern: ParsedPattern): Path[] {
  if (node.kind === 'set') return [[{ kind: 'one', mask: foldCase(node.mask, pattern.ignoreCase) }]]
  if (node.kind === 'start' || node.kind === 'end' || node.kind === 'boundary') return [[{ kind: node.kind }]]
  if (node.kind === 'group') return expand(node.body, pattern)
  if (node.kind === 'look') {
    const inner = expand(node.body, pattern)
    const linear = inner.some((path) => path.some(isUnbounded))
    if (linear && (node.open.includes('<') || !inner.every((path) => isLinearPath([{ kind: 'start' }, ...path], false))))
      throw new Unprovable()
    if (inner.some((path) => path.some((step) => step.kind === 'look'))) throw new Unprovable()
    return [[{ kind: 'look', linear }]]
  }
  return expandRepeat(node.node, node.min, node.max, pattern)
}

function expandRepeat(node: PatternNode, min: number, max: number, pattern: ParsedPattern): Path[] {
  if (node.kind === 'set') {
    const mask = foldCase(node.mask, pattern.ignoreCase)
    const fixed: Step[] = Array.from({ length: min }, () => ({ kind: 'one', mask }))
    if (max > min) fixed.push({ kind: 'many', mask, choices: max - min + 1 })
    return [fixed]
  }
  if (max > maxPaths) throw new Unprovable()
  const body = expandNode(node, pattern)
  let repeated: Path[] = [[]]
  const paths: Path[] = min === 0 ? [[]] : []
  for (let count = 1; count <= max; count++) {
    repeated = product(repeated, body)
    if (count >= min) paths.push(...repeated)
    if (paths.length > maxPaths) throw new Unprovable()
  }
  return paths
}

function foldCase(mask: CharMask, ignoreCase: boolean): CharMask {
  if (!ignoreCase) return mask
  const letters = (1n << 26n) - 1n
  const both = ((mask >> 65n) & letters) | ((mask >> 97n) & letters)
  // The two letters that fold from beyond ASCII (long s, Kelvin sign) make any non-ASCII character possible.
  return mask | (both << 65n) | (both << 97n) | (both === 0n ? 0n : 1n << 128n)
}

/** Treated as without bound: too many choices to be a constant factor. */
function isUnbounded(step: Step): boolean {
  return (step.kind === 'many' && step.choices > maxChoices) || (step.kind === 'look' && step.linear)
}

function isLinearPath(path: Path, multiline: boolean): boolean {
  const anchored = path[0]?.kind === 'start' && !multiline
  let unsettled = 0
  let unbounded = 0
  let choices = 1
  for (let index = 0; index < path.length; index++) {
    const step = path[index] as Step
    if (step.kind === 'look' && step.linear) {
      // A pass over the input is affordable only where the engine comes by once.
      if (!anchored || unbounded > 0 || choices > 1) return false
      continue
    }
    if (step.kind !== 'many') continue
    if (index === path.length - 1) return true // takes what it can and cannot fail: nothing is ever given back
    if (isUnbounded(step)) {
      if (!anchored || unsettled > 0) return false
      unbounded++
      if (!isSettled(path, index, multiline)) unsettled++
    } else if (!isSettled(path, index, multiline)) {
      choices *= step.choices
      if (choices > maxChoices) return false
      // Several attempts, each with a pass behind it, are still a constant number of passes.
    }
  }
  return true
}

/** What follows the repetition at `index` cannot start with one of its characters. */
function isSettled(path: Path, index: number, multiline: boolean): boolean {
  const own = path[index]
  if (own === undefined || own.kind !== 'many') return false
  let following: CharMask = 0n
  for (let next = index + 1; next < path.length; next++) {
    const step = path[next] as Step
    if (step.kind === 'end') return ((following | (multiline ? newlineMask : 0n)) & own.mask) === 0n
    if (step.kind === 'one') return ((following | step.mask) & own.mask) === 0n
    following |= step.kind === 'many' ? step.mask : allMask
  }
  return (following & own.mask) === 0n
}
