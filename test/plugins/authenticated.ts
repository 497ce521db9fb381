/** What tests of authentication plugins say about an exchange and a refusal. */
import type { AnyPlugin, Json, PluginInstance, PrepareKit, Reply } from '../../src/plugins/plugin.js'
import { type FakeExchange, type FakeRequest, fakeExchange } from '../support/fake-exchange.js'
import { FakeConsumers, FakeLimits, type FakeLinkKit, linkKit, linkPlugin, prepareKit } from '../support/link-kit.js'

export interface Linked {
  readonly instance: PluginInstance
  readonly logged: readonly string[]
  readonly delays: readonly number[]
  readonly kit: FakeLinkKit
}

/** Links a plugin with these consumers; `plugins`: those that it may hold. */
export function linkAuth(
  plugin: AnyPlugin,
  conf: Json,
  consumers = new FakeConsumers(),
  plugins: readonly AnyPlugin[] = [],
  prepare: PrepareKit = prepareKit({ plugins }),
): Linked {
  const kit = linkKit(null, new FakeLimits(), consumers, plugins)
  return { instance: linkPlugin(plugin, conf, kit, prepare), logged: kit.logged, delays: kit.delays, kit }
}

export interface Outcome {
  /** 0 = the request goes on. */
  readonly status: number
  readonly body: string
  readonly challenges: readonly string[]
  readonly consumer: string
  readonly exchange: FakeExchange
  readonly reply: Reply | undefined
}

/** Runs the rewrite phase. */
export async function authenticate(instance: PluginInstance, request: FakeRequest | FakeExchange = {}): Promise<Outcome> {
  const exchange = 'requestHeaders' in request ? request : fakeExchange(request)
  const reply = (await instance.rewrite?.(exchange)) ?? undefined
  return outcomeOf(exchange, reply)
}

export function outcomeOf(exchange: FakeExchange, reply: Reply | undefined): Outcome {
  const challenges = (reply?.headers ?? []).filter(([name]) => name === 'WWW-Authenticate').map(([, value]) => value)
  return { status: reply?.status ?? 0, body: String(reply?.body ?? ''), challenges, consumer: exchange.consumerName, exchange, reply }
}

export function basic(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`
}
