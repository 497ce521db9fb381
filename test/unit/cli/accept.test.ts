/** Which accept mode is run, by what was asked for and what the build can do. */
import { expect, test } from 'vitest'
import { UsageError } from '../../../src/base/errors.js'
import { resolveAccept } from '../../../src/cli/accept.js'

const able = { name: 'uWebSockets.js', version: '20.51.0', childApps: true }
const unable = { name: 'uWebSockets.js', version: '1.5.0', childApps: false }

test.each([
  ['auto', able, 'primary'],
  ['auto', unable, 'kernel'],
  ['primary', able, 'primary'],
  ['kernel', able, 'kernel'],
  ['kernel', unable, 'kernel'],
] as const)('%s with %o: %s', (asked, build, mode) => {
  expect(resolveAccept(asked, build)).toBe(mode)
})

test('primary with a build that cannot do it names the build, what it lacks and the way out', () => {
  expect(() => resolveAccept('primary', unable)).toThrow(UsageError)
  expect(() => resolveAccept('primary', unable)).toThrow(/uWebSockets\.js 1\.5\.0 cannot .*addChildAppDescriptor.*--accept kernel/)
})
