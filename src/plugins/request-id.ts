/**
 * request-id: gives every request an id, tells it to the upstream and to the client.
 *
 * Runs on workers: rewrite chooses the id, headerFilter shows it. State: one slot per request. A non-empty id of the client is kept:
 * whoever trusts these ids must trust the clients, or remove the header in front. When the answer was made before rewrite ran, the
 * id is made in headerFilter. Nothing here can fail.
 */
import { randomBytes } from 'node:crypto'
import { customAlphabet, nanoid } from 'nanoid'
import { definePlugin, type Exchange, fieldNameProblem, fieldValue, type PluginProblem, type Static, Type } from './plugin.js'
import { uuidSource } from './request-id/uuids.js'

const alphanumeric = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'

const schema = Type.Object({
  header_name: Type.String({ description: 'Header that carries the id, spelt as it is sent.', default: 'X-Request-Id', minLength: 1 }),
  include_in_response: Type.Boolean({
    description: 'Show the id to the client too, unless the upstream answered with the same header.',
    default: true,
  }),
  algorithm: Type.Union(
    ['uuid', 'nanoid', 'range_id', 'ksuid', 'uuidv7'].map((name) => Type.Literal(name)),
    {
      description:
        'How ids are made: `uuid` (random, version 4), `uuidv7` (ordered by time), `nanoid` (21 characters), `ksuid` (27 characters, ordered by second), `range_id` (see `range_id`).',
      default: 'uuid',
    },
  ),
  range_id: Type.Object(
    {
      length: Type.Integer({ description: 'Characters of an id.', default: 16, minimum: 6, maximum: 256 }),
      char_set: Type.String({
        description: 'Characters that ids are drawn from: visible ASCII, none of them twice.',
        default: 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789',
        minLength: 6,
        maxLength: 94,
      }),
    },
    { description: 'Only for the algorithm `range_id`.', default: {} },
  ),
})

type Conf = Static<typeof schema>

interface Prepared {
  readonly headerName: string
  readonly includeInResponse: boolean
  readonly algorithm: string
  readonly length: number
  readonly charSet: string
}

export const requestId = definePlugin<Conf, Prepared>({
  name: 'request-id',
  priority: 12015,
  description: 'Adds a unique id to requests and answers, so that one request can be followed through all services.',
  schema,
  check,
  prepare: (conf) => ({
    headerName: conf.header_name,
    includeInResponse: conf.include_in_response,
    algorithm: conf.algorithm,
    length: conf.range_id.length,
    charSet: conf.range_id.char_set,
  }),
  link: (prepared, kit) => {
    const { headerName, includeInResponse } = prepared
    const key = headerName.toLowerCase()
    const generate = linkGenerator(prepared)
    const slot = kit.slot()

    function choose(exchange: Exchange): string {
      const given = exchange.requestHeaders.get(key)
      const id = given === undefined || given === '' ? generate(exchange) : given
      exchange.setSlot(slot, id)
      exchange.requestId = id
      if (given === undefined) exchange.requestHeaders.push(key, headerName, id)
      else if (id !== given) exchange.requestHeaders.set(headerName, id)
      return id
    }

    return {
      ...(key !== 'host' && { keepsHeadSafe: true as const }),
      rewrite(exchange) {
        choose(exchange)
      },
      ...(includeInResponse && {
        headerFilter(exchange: Exchange) {
          const chosen = exchange.getSlot(slot)
          const id = typeof chosen === 'string' ? chosen : choose(exchange)
          if (!exchange.response.headers.has(key)) exchange.response.headers.set(headerName, fieldValue(id))
        },
      }),
    }
  },
})

function check(conf: Conf): PluginProblem[] {
  const problems: PluginProblem[] = []
  const nameProblem = fieldNameProblem(conf.header_name)
  if (nameProblem !== null) problems.push({ path: 'header_name', message: nameProblem })
  const characters = conf.range_id.char_set
  if (!/^[\x21-\x7e]*$/.test(characters))
    problems.push({ path: 'range_id.char_set', message: 'has characters that cannot stand in a header; expected visible ASCII' })
  if (new Set(characters).size !== characters.length)
    problems.push({ path: 'range_id.char_set', message: 'names a character twice; expected each once' })
  return problems
}

function linkGenerator(prepared: Prepared): (exchange: Exchange) => string {
  switch (prepared.algorithm) {
    case 'nanoid':
      return () => nanoid()
    case 'range_id': {
      const draw = customAlphabet(prepared.charSet, prepared.length)
      return () => draw()
    }
    case 'ksuid':
      return (exchange) => ksuid(exchange.startedAtMs, randomBytes(16))
    case 'uuidv7':
      return (exchange) => uuidV7(exchange.startedAtMs, randomBytes(10))
    default:
      return uuidSource()
  }
}

/** RFC 9562 §5.7: 48 bits of milliseconds, version, 12 random bits, variant, 62 random bits. */
export function uuidV7(atMs: number, random: Buffer): string {
  const bytes = Buffer.alloc(16)
  bytes.writeUIntBE(Math.trunc(atMs), 0, 6)
  random.copy(bytes, 6, 0, 10)
  bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x70, 6)
  bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8)
  const hex = bytes.toString('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}

/** Seconds since 2014-05-13T16:53:20Z, the epoch of KSUIDs. */
const ksuidEpochSeconds = 1_400_000_000

/** 32 bits of seconds since the KSUID epoch and 128 random bits, as 27 base-62 digits, so that text order is time order. */
export function ksuid(atMs: number, random: Buffer): string {
  const bytes = Buffer.alloc(20)
  bytes.writeUInt32BE((Math.trunc(atMs / 1000) - ksuidEpochSeconds) >>> 0, 0)
  random.copy(bytes, 4, 0, 16)
  let rest = BigInt(`0x${bytes.toString('hex')}`)
  let text = ''
  for (let digit = 0; digit < 27; digit++) {
    text = alphanumeric.charAt(Number(rest % 62n)) + text
    rest /= 62n
  }
  return text
}
