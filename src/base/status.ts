/** Reason phrases of HTTP statuses, for answers of the gateway itself. */
import { STATUS_CODES } from 'node:http'

/** An array with room for something per status: with room for all from the start it never becomes a table of hashes, which is slow to read. */
export function byStatus<T>(): (T | undefined)[] {
  return new Array<T | undefined>(1000)
}

/** The phrase of RFC 9110 (and what Node knows beyond it); `Unknown` for others. */
export function reasonPhrase(status: number): string {
  return STATUS_CODES[status] ?? 'Unknown'
}
