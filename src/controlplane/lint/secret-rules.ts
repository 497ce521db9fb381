/** Rules about keys, passwords and tokens. No message ever holds a value. */
import { resourceKinds } from '../../schema/resources.js'
import type { DocumentPath } from '../load-issue.js'
import { parseCertificate } from '../validate-certificates.js'
import type { LintRule, LintSubject } from './lint-rule.js'

/** Keys that stand in documentation, images and tutorials of the gateways whose files are read here. */
const published: ReadonlySet<string> = new Set([
  'edd1c9f034335f136f87ad84b625c8f1',
  '4054f7cf07e344346cd3f287985e76a2',
  'admin-api-key',
  'admin',
  'apikey',
  'api-key',
  'my-key',
  'my-secret-key',
  'user-key',
  'auth-one',
  'secret',
  'secret-key',
  'password',
  'passwd',
  'changeme',
  'change-me',
  'test',
  'test-key',
  'key',
  '123456',
  '12345678',
])

/** Shorter keys of the admin server are found by trying. */
const ADMIN_KEY_MIN = 16
/** Of a secret for HS256: as long as its hash (RFC 7518, 3.2). */
const HMAC_SECRET_BYTES_MIN = 32
const CERTIFICATE_DAYS_MIN = 30
const DAY_MS = 86_400_000

export const secretRules: readonly LintRule[] = [
  {
    id: 'default-secret',
    severity: 'error',
    group: 'security',
    finds: 'A key or password that stands in documentation or in a list of the most common ones.',
    why: 'It is the first that anybody tries.',
    find(subject, report) {
      for (const { path, value } of secretsOf(subject)) {
        if (published.has(value))
          report(path, 'a value that is publicly known', 'a random one of your own, such as `openssl rand -hex 24` makes')
      }
    },
  },
  {
    id: 'admin-key-short',
    severity: 'warning',
    group: 'security',
    finds: `A key of the admin server with less than ${ADMIN_KEY_MIN} characters.`,
    why: 'Short keys are found by trying.',
    find({ written }, report) {
      for (const list of [
        ['sluice', 'admin', 'keys'],
        ['deployment', 'admin', 'admin_key'],
      ]) {
        const keys = written(list)
        for (const [index] of (Array.isArray(keys) ? keys : []).entries()) {
          const key = written([...list, index, 'key'])
          if (typeof key === 'string' && key.length < ADMIN_KEY_MIN) {
            report([...list, index, 'key'], `a key of ${key.length} characters`, `at least ${ADMIN_KEY_MIN} random characters`)
          }
        }
      }
    },
  },
  {
    id: 'secret-in-clear',
    severity: 'warning',
    group: 'security',
    finds: 'A key, password or token that is written into the file.',
    why: 'Whoever reads the file, its backups or its history in version control has it.',
    find(subject, report) {
      for (const { path, value } of secretsOf(subject)) {
        if (!isReference(value) && !isHash(value) && subject.isLiteral(path)) {
          report(path, 'a secret in clear', '${{NAME}} or $env://NAME')
        }
      }
    },
  },
  {
    id: 'jwt-secret-short',
    severity: 'warning',
    group: 'security',
    finds: `A shared secret for tokens with less than ${HMAC_SECRET_BYTES_MIN} bytes.`,
    why: 'Whoever has one token can try secrets at leisure (RFC 7518, 3.2).',
    find(subject, report) {
      for (const { path, value } of secretsOf(subject)) {
        const [field, plugin] = [path.at(-1), path.at(-2)]
        if (field !== 'secret' || (plugin !== 'jwt-auth' && plugin !== 'jwt') || isReference(value)) continue
        const conf = subject.written(path.slice(0, -1))
        const isBase64 = typeof conf === 'object' && conf !== null && Reflect.get(conf, 'base64_secret') === true
        const bytes = Buffer.byteLength(value, isBase64 ? 'base64' : 'utf8')
        if (bytes < HMAC_SECRET_BYTES_MIN)
          report(path, `a secret of ${bytes} bytes`, `${HMAC_SECRET_BYTES_MIN} random bytes, or a key pair (RS256, ES256)`)
      }
    },
  },
  {
    id: 'certificate-expires',
    severity: 'warning',
    group: 'security',
    finds: `A certificate in ssls that ends within ${CERTIFICATE_DAYS_MIN} days.`,
    why: 'Clients refuse it from then on.',
    find({ written, nowMs }, report) {
      const list = written(['ssls'])
      for (const [index] of (Array.isArray(list) ? list : []).entries()) {
        const path = ['ssls', index, 'cert']
        const pem = written(path)
        const certificate = typeof pem === 'string' ? parseCertificate(pem) : null
        if (certificate === null) continue
        const days = Math.floor((Date.parse(certificate.validTo) - nowMs) / DAY_MS)
        if (days < CERTIFICATE_DAYS_MIN)
          report(path, days < 0 ? 'the certificate has expired' : `the certificate ends in ${days} days`, 'a new certificate')
      }
    },
  },
]

interface Secret {
  readonly path: DocumentPath
  readonly value: string
}

/** Names of options that hold secrets; `key` only where it is one. */
const secretName = /(^|_)(secret|password|passwd|token|private_key|secret_key|client_key|api_key|apikey|access_key)$/i
const ownKey: ReadonlySet<unknown> = new Set(['key-auth', 'keyauth_credentials', 'keys', 'admin_key', 'csrf'])

/** Every text that is a secret by its name, of all sections. */
function secretsOf({ config }: LintSubject): Secret[] {
  const found: Secret[] = []
  const root = config.source.value
  if (typeof root !== 'object' || root === null) return found
  const sections = [...resourceKinds.map(({ kind }) => kind), 'sluice', 'deployment', 'plugin_attr']
  for (const name of sections) collect(Reflect.get(root, name), [name], found)
  return found
}

function collect(value: unknown, path: DocumentPath, found: Secret[]): void {
  if (Array.isArray(value)) for (const [index, item] of value.entries()) collect(item, [...path, index], found)
  else if (typeof value === 'object' && value !== null) {
    for (const [name, inner] of Object.entries(value)) {
      if (typeof inner !== 'string') collect(inner, [...path, name], found)
      else if (inner !== '' && isSecret(name, path)) found.push({ path: [...path, name], value: inner })
    }
  }
}

function isSecret(name: string, path: DocumentPath): boolean {
  if (name !== 'key') return secretName.test(name)
  const holder = path.at(-1)
  return path[0] === 'ssls' || ownKey.has(typeof holder === 'number' ? path.at(-2) : holder)
}

function isReference(value: string): boolean {
  return /^\$(env|secret):\/\//i.test(value)
}

function isHash(value: string): boolean {
  return /^(\$(argon2|2[aby]?\$|5\$|6\$)|\{SHA)/.test(value)
}
