/** Moments in header fields. */

const imfDate = /^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d{2} (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4} \d{2}:\d{2}:\d{2} GMT$/

/** Milliseconds since the epoch of an IMF-fixdate (RFC 9110 §5.6.7), or null. */
export function readHttpDate(value: string): number | null {
  if (!imfDate.test(value)) return null
  const time = Date.parse(value)
  return Number.isNaN(time) ? null : time
}
