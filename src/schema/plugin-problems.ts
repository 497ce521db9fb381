/** What is wrong with the conf of a plugin beyond its schema: the answer of `PluginDefinition.check`, and helpers to make it. */

export interface PluginProblem {
  /** Path below the plugin's conf: `headers.set`, or empty. */
  readonly path: string
  readonly message: string
  /** It works, but not as the user may think: said, and accepted. */
  readonly isWarning?: true
}

/** For `check`: one problem unless exactly one of the fields is configured. */
export function exactlyOneOf(conf: object, fields: readonly string[]): PluginProblem[] {
  const found = fields.filter((field) => field in conf)
  if (found.length === 1) return []
  const what = found.length === 0 ? 'none of them is given' : `${found.join(' and ')} are given`
  return [{ path: '', message: `exactly one of ${fields.join(', ')} is required, but ${what}` }]
}

/** For `check`: the items of a list in which `problemOf` finds a fault, each at its place. */
export function itemProblems(
  path: string,
  items: readonly string[] | undefined,
  problemOf: (item: string) => string | null,
): PluginProblem[] {
  const problems: PluginProblem[] = []
  for (const [index, item] of (items ?? []).entries()) {
    const message = problemOf(item)
    if (message !== null) problems.push({ path: `${path}.${index}`, message })
  }
  return problems
}
