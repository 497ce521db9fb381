/** Names of variables, as they appear in expressions and templates. */

/** Names, and beginnings of names, that need the body of the request. */
const bodyVariables = ['post_arg_', 'post_arg.', 'graphql_']

/** The text of what is wrong with a variable's name, or null. Unknown names are no error: they are unset, as in the reference gateway. */
export function variableProblem(name: string): string | null {
  if (bodyVariables.some((prefix) => name.startsWith(prefix))) return `variable '${name}' needs the request body: not supported yet`
  if (name === '' || !/^[A-Za-z0-9_.:-]+$/.test(name)) {
    return `${JSON.stringify(name)} is not the name of a variable; expected letters, digits and _, for example arg_version`
  }
  return null
}
