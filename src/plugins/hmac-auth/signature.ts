/**
 * The Signature scheme as APISIX reads it (after draft-cavage-http-signatures):
 *
 *   Authorization: Signature keyId="id",algorithm="hmac-sha256",headers="@request-target date",signature="base64"
 *
 * What is signed: the key id, then one line for each name in `headers`, in their order and spelling; each line ends with LF.
 */
import { createHmac } from 'node:crypto'
import type { Exchange } from '../plugin.js'

export const algorithms = ['hmac-sha1', 'hmac-sha256', 'hmac-sha512'] as const
export type Algorithm = (typeof algorithms)[number]

const digests: { readonly [algorithm in Algorithm]: string } = { 'hmac-sha1': 'sha1', 'hmac-sha256': 'sha256', 'hmac-sha512': 'sha512' }

export interface SignatureParameters {
  readonly keyId: string
  readonly algorithm: string
  readonly signature: string
  /** Names as written. */
  readonly headers: readonly string[]
}

/** More names than this are no signature of a client of ours. */
const NAMES_MAX = 64

const scheme = /^Signature(?:\s|$)/i
const parameter = /^\s*(\w+)="([^"]*)"\s*$/

export function hasSignatureScheme(value: string): boolean {
  return scheme.test(value)
}

/** The parameters of a value with this scheme; what is missing, or there twice, is empty. */
export function readSignature(value: string): SignatureParameters {
  const parameters = new Map<string, string>()
  for (const part of value.slice('Signature'.length).split(',')) {
    const found = parameter.exec(part)
    if (found === null) continue
    const [, name = '', value = ''] = found
    // Which of two counts would depend on who reads the field.
    parameters.set(name, parameters.has(name) ? '' : value)
  }
  const names = (parameters.get('headers') ?? '').split(' ').filter((name) => name !== '')
  const text = (name: string): string => parameters.get(name) ?? ''
  return { keyId: text('keyId'), algorithm: text('algorithm'), signature: text('signature'), headers: names.slice(0, NAMES_MAX) }
}

/** Lines of a field that is signed may not be repeated: only one of them would be covered. */
export class RepeatedField extends Error {}

/** The text that the client signed. Fields that the request does not have are left out, as clients do. Throws RepeatedField. */
export function signingString(exchange: Exchange, { keyId, headers }: SignatureParameters): string {
  let text = `${keyId}\n`
  for (const name of headers) {
    if (name === '@request-target') {
      text += `${exchange.method} ${exchange.rawTarget}\n`
      continue
    }
    const value = signedValue(exchange, name.toLowerCase())
    if (value !== undefined) text += `${name}: ${value}\n`
  }
  return text
}

function signedValue(exchange: Exchange, field: string): string | undefined {
  // These two are not among the fields that plugins see.
  if (field === 'host') return exchange.hostHeader
  if (field === 'content-length') return exchange.requestBodyLength > 0 ? String(exchange.requestBodyLength) : undefined
  const lines = exchange.requestHeaders.getAll(field)
  if (lines.length > 1) throw new RepeatedField(field)
  return lines[0]
}

/** The signature of a text under a secret. */
export function sign(algorithm: Algorithm, secret: string, text: string): Buffer {
  return createHmac(digests[algorithm], secret).update(text).digest()
}
