/**
 * Passwords as they are configured: plain, or hashed in the PHC string format, `$scrypt$ln=…,r=…,p=…$salt$hash` or
 * `$argon2id$v=19$m=…,t=…,p=…$salt$hash`. Costs are bounded, because every wrong password costs as much as a right one.
 */
import { createHash, scrypt, timingSafeEqual } from 'node:crypto'

export type StoredPassword =
  | { readonly kind: 'plain'; readonly text: string; readonly digest: Buffer }
  | {
      readonly kind: 'scrypt'
      readonly text: string
      readonly salt: Buffer
      readonly hash: Buffer
      readonly options: { readonly N: number; readonly r: number; readonly p: number; readonly maxmem: number }
    }
  | { readonly kind: 'argon2'; readonly text: string }

/** Memory of one verification; the parameters of OWASP and RFC 9106's second choice need 16 to 128 MiB. */
const MEMORY_BYTES_MAX = 256 * 1024 * 1024

const scryptForm = /^\$scrypt\$ln=(\d{1,2}),r=(\d{1,2}),p=(\d{1,2})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)$/
const argon2Form = /^\$argon2(?:id|i|d)\$v=19\$m=(\d{1,8}),t=(\d{1,3}),p=(\d{1,3})\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)$/

/** The text of what is wrong with a configured password, or null. Never holds the password. */
export function passwordProblem(text: string): string | null {
  if (/^\$2[abxy]?\$\d\d\$/.test(text)) return 'bcrypt hashes are not supported; expected an scrypt or argon2 hash, or the password itself'
  if (text.startsWith('$scrypt$')) return scryptProblem(text)
  return text.startsWith('$argon2') ? argon2Problem(text) : null
}

function scryptProblem(text: string): string | null {
  const found = scryptForm.exec(text)
  if (found === null) return 'is no scrypt hash; expected $scrypt$ln=15,r=8,p=1$<salt>$<hash> with base64 without padding'
  const [ln, r, p] = [Number(found[1]), Number(found[2]), Number(found[3])]
  const isPossible = ln >= 1 && ln <= 22 && r >= 1 && p >= 1 && p <= 16 && Buffer.from(found[5] ?? '', 'base64').length >= 16
  if (!isPossible) return 'has scrypt parameters out of range; expected ln 1 to 22, r 1 to 99, p 1 to 16, a hash of at least 16 bytes'
  return memoryProblem(128 * r * 2 ** ln)
}

function argon2Problem(text: string): string | null {
  const found = argon2Form.exec(text)
  if (found === null) return 'is no argon2 hash; expected $argon2id$v=19$m=19456,t=2,p=1$<salt>$<hash> with base64 without padding'
  const [m, t, p] = [Number(found[1]), Number(found[2]), Number(found[3])]
  if (t < 1 || t > 16 || p < 1 || p > 16 || m < 8 * p)
    return 'has argon2 parameters out of range; expected t 1 to 16, p 1 to 16, m at least 8 × p'
  return memoryProblem(m * 1024)
}

function memoryProblem(bytes: number): string | null {
  if (bytes <= MEMORY_BYTES_MAX) return null
  return `needs ${Math.ceil(bytes / 1_048_576)} MiB for each verification; expected parameters that need at most ${MEMORY_BYTES_MAX / 1_048_576} MiB`
}

/** Reads a configured password that `passwordProblem` accepts. */
export function readStored(text: string): StoredPassword {
  const found = scryptForm.exec(text)
  if (found !== null) {
    const options = { N: 2 ** Number(found[1]), r: Number(found[2]), p: Number(found[3]), maxmem: MEMORY_BYTES_MAX + 1_048_576 }
    return { kind: 'scrypt', text, salt: Buffer.from(found[4] ?? '', 'base64'), hash: Buffer.from(found[5] ?? '', 'base64'), options }
  }
  return text.startsWith('$argon2') ? { kind: 'argon2', text } : { kind: 'plain', text, digest: digestOf(text) }
}

/** Compares with a plain password, in a time that depends on the length of what was sent only. */
export function equalsPlain(stored: StoredPassword & { readonly kind: 'plain' }, password: string): boolean {
  return timingSafeEqual(stored.digest, digestOf(password))
}

function digestOf(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}

/** Hashes the password and compares, on a thread of its own. Takes tens of milliseconds. Rejects when it cannot be done. */
export async function verifyHashed(stored: Exclude<StoredPassword, { kind: 'plain' }>, password: string): Promise<boolean> {
  if (stored.kind === 'argon2') {
    const argon2 = await import('@node-rs/argon2')
    return argon2.verify(stored.text, password)
  }
  const { salt, hash, options } = stored
  const derived = await new Promise<Buffer>((resolve, reject) => {
    scrypt(password, salt, hash.length, options, (error, key) => (error === null ? resolve(key) : reject(error)))
  })
  return timingSafeEqual(derived, hash)
}
