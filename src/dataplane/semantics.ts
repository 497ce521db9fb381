/** What HTTP says about methods and statuses (RFC 9110), for those who decide on retries and write down statuses. */

/** RFC 9110 §9.2.1; TRACE is left out, whose answer repeats the request. */
export function isSafe(method: string): boolean {
  return method === 'GET' || method === 'HEAD' || method === 'OPTIONS'
}

/** RFC 9110 §9.2.2. */
export function isIdempotent(method: string): boolean {
  return isSafe(method) || method === 'PUT' || method === 'DELETE' || method === 'TRACE'
}

const statusTexts: string[] = []

/** The status as text, made once. */
export function statusText(status: number): string {
  const known = statusTexts[status]
  if (known !== undefined) return known
  statusTexts[status] = `${status}`
  return `${status}`
}
