/** Addresses to listen on, as texts in a configuration. */
import { Type } from '@sinclair/typebox'

export const socketAddress = (description: string) =>
  Type.String({
    minLength: 1,
    maxLength: 300,
    pattern: '^(\\[[0-9a-fA-F:.]+\\]|[^:\\[\\]\\s]*):\\d{1,5}$|^\\d{1,5}$',
    description: `${description} \`host:port\`, \`[v6]:port\` or a port alone.`,
  })
