/** Checks of certificates and keys (PEM): that they parse, belong together and are still valid. Never prints any of their text. */
import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto'

/** What is wrong with a pair, or null. `cert` may hold a chain: the first certificate is the server's. */
export function pairProblem(cert: string, key: string): { readonly at: 'cert' | 'key'; readonly message: string } | null {
  const certificate = parseCertificate(cert)
  if (certificate === null) return { at: 'cert', message: 'failed to parse cert: it is not a PEM certificate' }
  const privateKey = parseKey(key)
  if (privateKey === null) return { at: 'key', message: 'failed to parse key: it is not an unencrypted PEM private key' }
  if (!certificate.checkPrivateKey(privateKey))
    return { at: 'key', message: 'failed to handle cert-key pair[1]: the key does not belong to the certificate' }
  return null
}

/** The first certificate of the text, or null. */
export function parseCertificate(pem: string): X509Certificate | null {
  try {
    return new X509Certificate(pem)
  } catch {
    return null
  }
}

/** Why a certificate that parses will be refused by clients today, or null. */
export function validityWarning(pem: string, nowMs: number): string | null {
  const certificate = parseCertificate(pem)
  if (certificate === null) return null
  if (Date.parse(certificate.validTo) < nowMs) return `the certificate expired on ${certificate.validTo}; it is still served`
  if (Date.parse(certificate.validFrom) > nowMs)
    return `the certificate is not valid before ${certificate.validFrom}; it is served all the same`
  return null
}

function parseKey(pem: string): KeyObject | null {
  try {
    return createPrivateKey(pem)
  } catch {
    return null
  }
}
