import { describe, expect, test } from 'vitest'
import { CIRCUIT_FAILURES, CIRCUIT_PAUSE_MS, Circuit } from '../../../src/cluster/circuit.js'

function opened(): Circuit {
  const circuit = new Circuit()
  for (let index = 0; index < CIRCUIT_FAILURES; index++) circuit.failed(0)
  return circuit
}

describe('circuit', () => {
  test('opens after failures in a row only', () => {
    const circuit = new Circuit()
    for (let index = 0; index < CIRCUIT_FAILURES - 1; index++) expect(circuit.failed(0)).toBe(false)
    circuit.succeeded()
    for (let index = 0; index < CIRCUIT_FAILURES - 1; index++) expect(circuit.failed(0)).toBe(false)
    expect(circuit.admit(0)).toBe('call')
    expect(circuit.failed(0)).toBe(true)
    expect(circuit.admit(0)).toBe('refuse')
  })

  test('asks for one probe after the pause, and turns calls away until it ends', () => {
    const circuit = opened()
    expect(circuit.admit(CIRCUIT_PAUSE_MS - 1)).toBe('refuse')
    expect(circuit.admit(CIRCUIT_PAUSE_MS)).toBe('probe')
    expect(circuit.admit(CIRCUIT_PAUSE_MS)).toBe('refuse')
    expect(circuit.probed(true, CIRCUIT_PAUSE_MS)).toBe(true)
    expect(circuit.admit(CIRCUIT_PAUSE_MS)).toBe('call')
  })

  test('a failed probe begins another pause', () => {
    const circuit = opened()
    circuit.admit(CIRCUIT_PAUSE_MS)
    expect(circuit.probed(false, CIRCUIT_PAUSE_MS)).toBe(false)
    expect(circuit.admit(2 * CIRCUIT_PAUSE_MS - 1)).toBe('refuse')
    expect(circuit.admit(2 * CIRCUIT_PAUSE_MS)).toBe('probe')
  })

  test('late answers do not close it', () => {
    const circuit = opened()
    circuit.succeeded()
    expect([circuit.admit(0), circuit.closed]).toEqual(['refuse', false])
    expect(circuit.probed(true, 0)).toBe(false)
  })
})
