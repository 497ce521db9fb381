import { describe, expect, test } from 'vitest'
import { basicAuth } from '../../src/plugins/basic-auth.js'
import { cors } from '../../src/plugins/cors.js'
import { hmacAuth } from '../../src/plugins/hmac-auth.js'
import { keyAuth } from '../../src/plugins/key-auth.js'
import { multiAuth } from '../../src/plugins/multi-auth.js'
import { definePlugin, type Json, Type } from '../../src/plugins/plugin.js'
import { FakeConsumers } from '../support/link-kit.js'
import { authenticate, basic, linkAuth } from './authenticated.js'
import { problemsOf } from './configured.js'

/** Refuses for a reason that is not the caller's, some time later. */
const overloaded = definePlugin({
  name: 'overloaded',
  priority: 1,
  description: 'Always busy.',
  schema: Type.Object({}),
  ...(keyAuth.credential === undefined ? {} : { credential: keyAuth.credential }),
  prepare: () => null,
  link: () => ({ rewrite: () => Promise.resolve({ status: 503 }) }),
})

const plugins = [keyAuth, basicAuth, hmacAuth, overloaded, cors]

function link(...list: { readonly [name: string]: Json }[]) {
  const all = new FakeConsumers()
  all.addCredential(keyAuth, 'jack', { key: 'k' })
  all.addCredential(basicAuth, 'jill', { username: 'jill', password: 'p' })
  all.add({ username: 'nobody' })
  return linkAuth(multiAuth, { auth_plugins: list }, all, plugins).instance
}

describe('multi-auth', () => {
  test('the first success counts, in the order of the list', async () => {
    const instance = link({ 'basic-auth': {} }, { 'key-auth': {} })
    const both = { apikey: 'k', Authorization: basic('jill', 'p') }
    expect(await authenticate(instance, { headers: both })).toMatchObject({ status: 0, consumer: 'jill' })
    expect((await authenticate(instance, { headers: { apikey: 'k' } })).consumer).toBe('jack')
    expect((await authenticate(link({ 'key-auth': {} }, { 'basic-auth': {} }), { headers: both })).consumer).toBe('jack')
  })

  test('all fail: one message, and the challenges of all', async () => {
    const outcome = await authenticate(link({ 'key-auth': {}, 'hmac-auth': {} }, { 'basic-auth': { realm: 'r' } }), {
      headers: { apikey: 'x' },
    })
    expect(outcome).toMatchObject({
      status: 401,
      body: '{"message":"Authorization Failed"}\n',
      challenges: ['apikey realm="key"', 'hmac realm="hmac"', 'Basic realm="r"'],
      consumer: '',
    })
  })

  test('a plugin that fails leaves the credentials for the next one', async () => {
    const instance = link({ 'basic-auth': { hide_credentials: true } }, { 'hmac-auth': { hide_credentials: true } }, { 'key-auth': {} })
    const { exchange, consumer } = await authenticate(instance, { headers: { apikey: 'k', Authorization: basic('jill', 'wrong') } })
    expect(consumer).toBe('jack')
    expect(exchange.requestHeaders.has('authorization')).toBe(true)
  })

  test('one that waits and cannot decide: another may, else its answer is passed on', async () => {
    const instance = link({ overloaded: {} }, { 'key-auth': {} })
    expect((await authenticate(instance, { headers: { apikey: 'k' } })).consumer).toBe('jack')
    expect((await authenticate(instance, { headers: { apikey: 'x' } })).status).toBe(503)
  })

  test('the anonymous consumer of one of them', async () => {
    const instance = link({ 'basic-auth': {} }, { 'key-auth': { anonymous_consumer: 'nobody' } })
    expect(await authenticate(instance)).toMatchObject({ status: 0, consumer: 'nobody' })
  })

  test('only authentication plugins, at least two, each with its own options checked', () => {
    expect(() => link({ 'key-auth': {} }, { cors: {} })).toThrow('cors plugin is not supported')
    expect(() => link({ 'key-auth': {} }, { unknown: {} })).toThrow('unknown plugin [unknown]')
    expect(() => link({ 'key-auth': {} }, { 'basic-auth': { realm: 1 } })).toThrow('string')
    expect(problemsOf(multiAuth, { auth_plugins: [{ 'key-auth': {} }] })).not.toEqual([])
    expect(problemsOf(multiAuth, { auth_plugins: [{ 'key-auth': {} }, {}] }).join()).toContain('names no plugin')
  })
})
