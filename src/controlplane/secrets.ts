/**
 * References to secrets in options of plugins: `$env://NAME`, `$env://NAME/field` (a field of a JSON object in the variable), and
 * `$secret://file/path` (a file below the directory for secrets, as Docker and Kubernetes mount them). The primary resolves them when
 * it checks a configuration; values are never part of a message.
 */
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { Json } from '../schema/compiled.js'
import type { Environment } from './environment.js'

/** Where mounted secrets lie unless `sluice.secrets.directory` says otherwise. */
export const SECRETS_DIRECTORY = '/run/secrets'
const fileBytesMax = 1_048_576

export interface SecretProblem {
  /** Path of the option below the conf. */
  readonly path: readonly (string | number)[]
  readonly message: string
  readonly expected: string
}

export interface ResolvedConf {
  readonly conf: { [name: string]: Json }
  /** Options that were references: the reference, and what it stands for. */
  readonly references: readonly { readonly path: readonly (string | number)[]; readonly text: string; readonly value: string }[]
  readonly problems: readonly SecretProblem[]
}

const environmentForm = /^\$env:\/\/([A-Za-z_][A-Za-z0-9_]*)(?:\/(.+))?$/i
const fileForm = /^\$secret:\/\/file\/(.+)$/i

/** Whether a text is a reference, right or wrong. */
export function isReference(text: string): boolean {
  return text.charCodeAt(0) === 36 /* $ */ && /^\$(?:env|secret):\/\//i.test(text)
}

export function holdsReference(value: unknown): boolean {
  if (typeof value === 'string') return isReference(value)
  if (typeof value !== 'object' || value === null) return false
  for (const inner of Object.values(value)) if (holdsReference(inner)) return true
  return false
}

type Found = { readonly value: string } | { readonly message: string; readonly expected: string }

export class SecretResolver {
  private readonly files = new Map<string, Found>()

  constructor(
    private readonly environment: Environment,
    /** Directory of secret files. */
    private readonly directory: string,
  ) {}

  /** One that reads the files of secrets anew. */
  fresh(): SecretResolver {
    return new SecretResolver(this.environment, this.directory)
  }

  /** A copy of `conf` with the values in place of the references. */
  resolve(conf: { readonly [name: string]: Json }): ResolvedConf {
    const references: { path: readonly (string | number)[]; text: string; value: string }[] = []
    const problems: SecretProblem[] = []
    const fill = (value: Json, path: readonly (string | number)[]): Json => {
      if (typeof value === 'string') {
        if (!isReference(value)) return value
        const found = this.find(value)
        if ('value' in found) references.push({ path, text: value, value: found.value })
        else problems.push({ path, ...found })
        return 'value' in found ? found.value : value
      }
      if (typeof value !== 'object' || value === null) return value
      if (Array.isArray(value)) return value.map((inner, index) => fill(inner, [...path, index]))
      return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, fill(inner, [...path, name])]))
    }
    const filled = Object.fromEntries(Object.entries(conf).map(([name, value]) => [name, fill(value, [name])]))
    return { conf: filled, references, problems }
  }

  private find(reference: string): Found {
    const variable = environmentForm.exec(reference)
    if (variable !== null) return this.fromEnvironment(reference, variable[1] ?? '', variable[2])
    const file = fileForm.exec(reference)
    if (file !== null) return this.fromFile(reference, file[1] ?? '')
    return {
      message: `the reference ${reference} cannot be resolved: there is no such source of secrets`,
      expected: '$env://NAME, $env://NAME/field or $secret://file/path',
    }
  }

  private fromEnvironment(reference: string, name: string, field: string | undefined): Found {
    const value = Object.hasOwn(this.environment, name) ? this.environment[name] : undefined
    if (value === undefined) {
      return {
        message: `the reference ${reference} cannot be resolved: environment variable ${name} is not set`,
        expected: `a value for ${name}`,
      }
    }
    if (field === undefined) return { value }
    const inner = fieldOf(value, field)
    if (inner !== undefined) return { value: inner }
    return {
      message: `the reference ${reference} cannot be resolved: environment variable ${name} holds no JSON object with the text "${field}"`,
      expected: `a JSON object in ${name}`,
    }
  }

  private fromFile(reference: string, path: string): Found {
    let found = this.files.get(path)
    if (found === undefined) {
      found = readSecret(reference, this.directory, path)
      this.files.set(path, found)
    }
    return found
  }
}

/** A file as it stands, without the line break that editors put at its end. */
function readSecret(reference: string, directory: string, path: string): Found {
  const wrong = (reason: string, expected: string): Found => ({
    message: `the reference ${reference} cannot be resolved: ${reason}`,
    expected,
  })
  if (path.split('/').some((part) => part === '' || part === '.' || part === '..') || path.includes('\0')) {
    return wrong('the path leaves the directory of secrets or is not plain', `the path of a file below ${directory}`)
  }
  const file = join(directory, path)
  try {
    const { size } = statSync(file)
    if (size > fileBytesMax) return wrong(`${file} has ${size} bytes`, `a file of at most ${fileBytesMax} bytes`)
    return { value: new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(file)).replace(/\r?\n$/, '') }
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown error'
    return wrong(`${file} cannot be read (${code})`, `a readable UTF-8 file ${file}`)
  }
}

function fieldOf(text: string, field: string): string | undefined {
  try {
    const value: unknown = JSON.parse(text)
    const inner: unknown =
      typeof value === 'object' && value !== null && Object.hasOwn(value, field) ? Reflect.get(value, field) : undefined
    return typeof inner === 'string' ? inner : undefined
  } catch {
    return undefined
  }
}
