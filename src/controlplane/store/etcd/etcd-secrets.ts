/**
 * The encryption of the reference gateway for what it stores in etcd (`apisix.data_encryption`): private keys of `ssls`, and the fields of
 * plugins that their schemas name in `encrypt_fields`. AES-128-CBC with the key as the initialization vector, base64.
 *
 * It hides secrets from those who glance at etcd; it is here so that both gateways can read what the other one wrote.
 */
import { createCipheriv, createDecipheriv } from 'node:crypto'
import type { ResourceValue } from '../resource-store.js'

/** By plugin; a point goes one map deeper. */
const encryptedFields: { readonly [plugin: string]: readonly string[] } = {
  'basic-auth': ['password'],
  csrf: ['key'],
  'hmac-auth': ['secret_key'],
  'jwt-auth': ['secret', 'private_key'],
  'key-auth': ['key'],
  'limit-count': ['redis_password', 'sentinel_password'],
  'openid-connect': ['client_secret', 'client_rsa_private_key'],
}

export class EtcdSecrets {
  /** Keys of 16 bytes: the first one encrypts, all of them are tried. `withFields`: also fields of plugins. */
  constructor(
    private readonly keyring: readonly string[],
    private readonly withFields: boolean,
  ) {}

  opened(kind: string, value: ResourceValue): ResourceValue {
    return this.mapped(kind, value, (text) => this.decrypt(text))
  }

  closed(kind: string, value: ResourceValue): ResourceValue {
    return this.mapped(kind, value, (text) => this.encrypt(text))
  }

  private mapped(kind: string, value: ResourceValue, change: (text: string) => string): ResourceValue {
    const [key] = this.keyring
    if (key === undefined) return value
    if (kind === 'ssls') return changeField(changeField(value, ['key'], change), ['keys'], change)
    const { plugins } = value
    if (!this.withFields || !isMap(plugins)) return value
    const changed = Object.entries(plugins).map(([name, conf]): [string, unknown] => {
      const fields = Object.hasOwn(encryptedFields, name) ? (encryptedFields[name] ?? []) : []
      return [name, isMap(conf) ? fields.reduce((own, field) => changeField(own, field.split('.'), change), conf) : conf]
    })
    return { ...value, plugins: Object.fromEntries(changed) }
  }

  private encrypt(text: string): string {
    const key = Buffer.from(this.keyring[0] ?? '', 'latin1')
    // References to secrets are resolved by name: the reference gateway leaves them as they are, too.
    if (reference.test(text)) return text
    const cipher = createCipheriv('aes-128-cbc', key, key)
    return Buffer.concat([cipher.update(text, 'utf8'), cipher.final()]).toString('base64')
  }

  /** What cannot be decrypted was not encrypted. */
  private decrypt(text: string): string {
    if (text.startsWith('---') || !base64.test(text)) return text
    const bytes = Buffer.from(text, 'base64')
    if (bytes.length === 0 || bytes.length % 16 !== 0) return text
    for (const secret of this.keyring) {
      const key = Buffer.from(secret, 'latin1')
      const decipher = createDecipheriv('aes-128-cbc', key, key)
      try {
        const plain = Buffer.concat([decipher.update(bytes), decipher.final()])
        return new TextDecoder('utf-8', { fatal: true }).decode(plain)
      } catch {
        // Another key, or plain text that looks like base64.
      }
    }
    return text
  }
}

const base64 = /^[A-Za-z0-9+/]+={0,2}$/
const reference = /^\$(secret|env|ENV):\/\//

function isMap(value: unknown): value is ResourceValue {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function changeField(map: ResourceValue, [name = '', ...deeper]: readonly string[], change: (text: string) => string): ResourceValue {
  const value = map[name]
  if (deeper.length > 0) return isMap(value) ? { ...map, [name]: changeField(value, deeper, change) } : map
  if (typeof value === 'string') return { ...map, [name]: change(value) }
  if (!Array.isArray(value)) return map
  return { ...map, [name]: value.map((item: unknown) => (typeof item === 'string' ? change(item) : item)) }
}
