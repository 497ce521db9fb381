/**
 * Header names by which the gateway tells an upstream who the caller is. A client's own copy never passes, whatever its spelling:
 * upstreams that map headers to CGI-style variables read `X_Consumer_Username` and `X-Consumer-Username` as one.
 * Names from APISIX and Kong (semantics §2.1) and OpenID Connect (§2.6).
 */
const identityHeaders: ReadonlySet<string> = new Set([
  'x-consumer-username',
  'x-consumer-custom-id',
  'x-consumer-id',
  'x-consumer-groups',
  'x-consumer-group-id',
  'x-credential-identifier',
  'x-credential-username',
  'x-anonymous-consumer',
  'x-authenticated-groups',
  'x-authenticated-userid',
  'x-authenticated-scope',
  'x-access-token',
  'x-id-token',
  'x-raw-id-token',
  'x-userinfo',
  'x-refresh-token',
])

/** True if `name` (lower-case) is an identity header in any spelling. */
export function isIdentityHeader(name: string): boolean {
  // Second letters of the family: consumer, credential, anonymous/authenticated/access, id, raw, userinfo, refresh.
  if (name.length < 10) return false
  const dashed = name.includes('_') ? name.replaceAll('_', '-') : name
  return identityHeaders.has(dashed) || dashed.startsWith('x-consumer-')
}
