/** Certificates for tests: an authority of our own and what it signs, as PEM text. */
import 'reflect-metadata'
import { webcrypto } from 'node:crypto'
import {
  BasicConstraintsExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  type X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509'

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
const VALID_MS = 24 * 3600 * 1000

export interface PemPair {
  readonly cert: string
  readonly key: string
}

export class TestAuthority {
  private serial = 1

  private constructor(
    private readonly certificate: X509Certificate,
    private readonly keys: webcrypto.CryptoKeyPair,
  ) {}

  static async create(name = 'Sluice Test Authority'): Promise<TestAuthority> {
    const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
    const certificate = await X509CertificateGenerator.createSelfSigned({
      serialNumber: '01',
      name: `CN=${name}`,
      ...validity(),
      signingAlgorithm: ALGORITHM,
      keys,
      extensions: [
        new BasicConstraintsExtension(true, 1, true),
        new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      ],
    })
    return new TestAuthority(certificate, keys)
  }

  /** The certificate of the authority. */
  get cert(): string {
    return `${this.certificate.toString('pem')}\n`
  }

  /** A certificate for these names: DNS names, or addresses. The first is its common name. */
  async issue(...names: string[]): Promise<PemPair> {
    const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
    this.serial++
    const certificate = await X509CertificateGenerator.create({
      serialNumber: this.serial.toString(16).padStart(4, '0'),
      subject: `CN=${names[0] ?? 'nobody'}`,
      issuer: this.certificate.subject,
      ...validity(),
      signingAlgorithm: ALGORITHM,
      publicKey: keys.publicKey,
      signingKey: this.keys.privateKey,
      extensions: [
        new BasicConstraintsExtension(false, undefined, true),
        new SubjectAlternativeNameExtension(names.map((value) => ({ type: /^[0-9.:]+$/.test(value) ? 'ip' : 'dns', value }))),
      ],
    })
    const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey))
    const base64 = der.toString('base64').replace(/.{64}/g, '$&\n')
    return { cert: `${certificate.toString('pem')}\n`, key: `-----BEGIN PRIVATE KEY-----\n${base64}\n-----END PRIVATE KEY-----\n` }
  }
}

function validity(): { notBefore: Date; notAfter: Date } {
  const now = Date.now()
  return { notBefore: new Date(now - VALID_MS), notAfter: new Date(now + VALID_MS) }
}
