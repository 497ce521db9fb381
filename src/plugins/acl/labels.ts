/** acl as APISIX has it: labels of consumers. */
import { type Consumer, jsonReply, type PluginInstance } from '../plugin.js'

type Lists = { readonly [label: string]: readonly string[] }

export interface AclLabels {
  readonly shape: 'labels'
  readonly allow: Lists | null
  readonly deny: Lists | null
  readonly code: number
  readonly message: string
}

const NOBODY = jsonReply(401, 'message', 'Missing authentication.')

export function linkLabels({ allow, deny, code, message }: AclLabels): PluginInstance {
  const rejected = jsonReply(code, 'message', message)
  return {
    access({ consumer }) {
      if (consumer === null) return NOBODY
      if (deny !== null && hasOne(consumer, deny)) return rejected
      return allow === null || hasOne(consumer, allow) ? undefined : rejected
    },
  }
}

function hasOne({ labels }: Consumer, lists: Lists): boolean {
  return Object.entries(lists).some(([label, wanted]) => {
    const text = Object.hasOwn(labels, label) ? labels[label] : undefined
    return text !== undefined && valuesOf(text).some((value) => wanted.includes(value))
  })
}

/** A JSON array of texts, values with commas between, or one value. */
function valuesOf(text: string): readonly string[] {
  if (text.startsWith('[')) {
    try {
      const parsed: unknown = JSON.parse(text)
      return Array.isArray(parsed) ? parsed.filter((value) => typeof value === 'string') : []
    } catch {
      return []
    }
  }
  return text.includes(',') ? text.split(/\s*,\s*/) : [text]
}
