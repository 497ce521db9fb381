/** What the jobs need besides configurations, made anew for every run: keys, consumers, tokens, a certificate. Nothing of it is a secret. */
import { execFileSync } from 'node:child_process'
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { SignJWT } from 'jose'

export const CONSUMERS = 1_000
/** Distinct tokens that are alive during a run, evenly spread over the consumers. */
export const TOKENS = 10_000
const LIFETIME_S = 86_400

export function userOf(index) {
  return `user_${index % CONSUMERS}`
}

function lines(items) {
  return `${items.join('\n')}\n`
}

/** Users 0 to CONSUMERS - 1, as `map` makes a line of each. */
function forUsers(map) {
  return Array.from({ length: CONSUMERS }, (_, index) => map(index))
}

export class Fixtures {
  #keys = null
  #tokens = new Map()
  #apiKeys = null
  #certificate = null

  /** @param folder of the run. */
  constructor(folder) {
    this.folder = folder
  }

  #write(name, text) {
    const path = join(this.folder, name)
    writeFileSync(path, text)
    return path
  }

  get keys() {
    if (this.#keys === null) {
      const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
      const pem = publicKey.export({ type: 'spki', format: 'pem' })
      const secret = randomBytes(24).toString('hex')
      this.#keys = {
        secret,
        pem,
        privateKey,
        files: { HS256: this.#write('hs256.secret', secret), RS256: this.#write('rs256.pem', pem) },
      }
      this.#write('jwt-consumers.map', lines(forUsers((index) => `key-${index} ${userOf(index)}`)))
    }
    return this.#keys
  }

  /** Consumers of our configuration for tokens of this algorithm, as JSON. */
  jwtConsumers(algorithm) {
    const { secret, pem } = this.keys
    const own = algorithm === 'HS256' ? { secret } : { algorithm, public_key: pem }
    return JSON.stringify(forUsers((index) => ({ username: userOf(index), plugins: { 'jwt-auth': { key: `key-${index}`, ...own } } })))
  }

  /** A token; `changes` to its claims. */
  token(algorithm, index, changes = {}, key = this.keyOf(algorithm)) {
    const claims = { key: `key-${index % CONSUMERS}`, exp: Math.floor(Date.now() / 1000) + LIFETIME_S, jti: `token-${index}`, ...changes }
    return new SignJWT(claims).setProtectedHeader({ alg: algorithm, typ: 'JWT' }).sign(key)
  }

  keyOf(algorithm) {
    return algorithm === 'HS256' ? Buffer.from(this.keys.secret) : this.keys.privateKey
  }

  /** File with a field `Authorization` per line: TOKENS different ones. */
  async tokenFile(algorithm) {
    let path = this.#tokens.get(algorithm)
    if (path === undefined) {
      const fields = []
      for (let index = 0; index < TOKENS; index++) fields.push(`Authorization: Bearer ${await this.token(algorithm, index)}`)
      path = this.#write(`tokens-${algorithm}.txt`, lines(fields))
      this.#tokens.set(algorithm, path)
    }
    return path
  }

  get apiKeys() {
    if (this.#apiKeys === null) {
      const keys = forUsers(() => randomBytes(16).toString('hex'))
      this.#write('api-keys.map', lines(keys.map((key, index) => `${key} ${userOf(index)}`)))
      this.#write('api-keys.conf', lines(keys.map((key, index) => `"${key}" ${userOf(index)};`)))
      const file = this.#write('api-keys.txt', lines(keys.map((key) => `apikey: ${key}`)))
      const consumers = JSON.stringify(keys.map((key, index) => ({ username: userOf(index), plugins: { 'key-auth': { key } } })))
      this.#apiKeys = { keys, file, consumers }
    }
    return this.#apiKeys
  }

  /** A self-signed certificate (ECDSA P-256) in server.pem, server.key and, for HAProxy, server-both.pem. */
  certificate() {
    if (this.#certificate !== null) return
    const [key, certificate] = [join(this.folder, 'server.key'), join(this.folder, 'server.pem')]
    const made = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', key, '-out', certificate, '-days', '30']
    execFileSync('openssl', ['req', '-x509', ...made, '-subj', '/CN=bench.example'], { stdio: 'ignore' })
    this.#certificate = this.#write('server-both.pem', readFileSync(certificate, 'utf8') + readFileSync(key, 'utf8'))
  }
}
