/** Reason phrases of HTTP statuses, for answers of the gateway itself. */
import { STATUS_CODES } from 'node:http'

/** The phrase of RFC 9110 (and what Node knows beyond it); `Unknown` for others. */
export function reasonPhrase(status: number): string {
  return STATUS_CODES[status] ?? 'Unknown'
}
