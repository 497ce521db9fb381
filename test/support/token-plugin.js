/** A user plugin that authenticates by a header: the smallest that does, for tests of what comes behind authentication. */
import { defineCredential, definePlugin, jsonReply, Type } from 'sluice/plugin'

export const plugin = definePlugin({
  name: 'test-token',
  priority: 2500,
  description: 'Authenticates by a token in a header.',
  schema: Type.Object({
    anonymous_consumer: Type.Optional(Type.String({ description: 'Consumer of requests without a token.' })),
    delay: Type.Boolean({ default: false, description: 'Answer later.' }),
  }),
  credential: defineCredential({
    schema: Type.Object({
      token: Type.String({ minLength: 1, description: 'The token.' }),
      secret: Type.Optional(Type.String({ minLength: 4, description: 'Something to be kept.' })),
      note: Type.String({ default: 'none', description: 'Sent to the upstream.' }),
    }),
    key: 'token',
  }),
  prepare: (conf) => conf,
  link(conf, kit) {
    const index = kit.credentials()
    return {
      rewrite(exchange) {
        const token = exchange.requestHeaders.get('x-token')
        const found = token === undefined ? null : index.find(token)
        const anonymous = token === undefined && conf.anonymous_consumer !== undefined ? kit.consumer(conf.anonymous_consumer) : null
        if (found !== null) {
          exchange.authenticate(found.consumer, found)
          exchange.requestHeaders.set('X-Note', found.conf.note)
        } else if (anonymous !== null) exchange.authenticate(anonymous, null)
        else return jsonReply(401, 'message', 'no such token')
        return conf.delay ? kit.delay(1) : undefined
      },
    }
  },
})
