/**
 * From the test vectors of Project Wycheproof (github.com/C2SP/wycheproof, Apache License 2.0), testvectors_v1, by value: of
 * json_web_signature_test.json the groups hs256, es256, base64 and SpecialCaseEs256 and the good one of rs256, of json_web_key_test.json
 * what is about keys of signatures. Numbers are `tcId`. No package has the files as data; what is left out are some 310 modified
 * paddings of rs256, ps256 and their neighbours, and JSON Web Encryption. wycheproof.test.ts makes such paddings itself.
 */

/** Number, what it is about, the text. */
export type Vector = readonly [id: number, about: string, jws: string]

export const hs256Key = '-ebuDNsVZ2iJtoZ-akfXTSCt4UO2cruLCsbWlBinggE'
const hs256Head = 'eyJhbGciOiJIUzI1NiIsImtpZCI6ImtpZC1hZXMtc2lnbiJ9'
const hs256Mac = 'TD37p4c_0jmreSrBSDmE0F3mYSPtkZ3WrSyI5wb_KTg'
export const hs256Valid: Vector = [1, 'valid', `${hs256Head}.Zm9v.${hs256Mac}`]
export const hs256Invalid: readonly Vector[] = [
  [2, 'modified signature', `${hs256Head}.Zm9v.XD37p4c_0jmreSrBSDmE0F3mYSPtkZ3WrSyI5wb_KTg`],
  [3, 'missing signature', `${hs256Head}.Zm9v.`],
  [4, 'missing signature and separator', `${hs256Head}.Zm9v`],
  [5, 'modified payload', `${hs256Head}.WG9v.${hs256Mac}`],
  [6, 'missing payload', `${hs256Head}..${hs256Mac}`],
  [7, 'missing payload and separator', `${hs256Head}.${hs256Mac}`],
  [8, 'modified header', `eyJhbGciOiJIUzI1NiIsImtpZCI6IlhpZC1hZXMtc2lnbiJ9.Zm9v.${hs256Mac}`],
  [9, 'missing header', `.Zm9v.${hs256Mac}`],
  [10, 'missing header and separator', `Zm9v.${hs256Mac}`],
  [11, 'missing header and signature', '.Zm9v.'],
  [12, 'missing header, signature and separators', 'Zm9v'],
  [13, 'empty', ''],
  [14, 'extra empty component', `${hs256Head}.Zm9v.${hs256Mac}.`],
  [15, 'extra component', `${hs256Head}.Zm9v.${hs256Mac}.foo`],
  [16, 'none, missing signature', 'eyJhbGciOiJub25lIiwia2lkIjoia2lkLWFlcy1zaWduIn0.Zm9v.'],
  [
    17,
    'JSON serialization',
    `{"payload":"Zm9v","signatures":[{"protected":"${hs256Head}","header":{"unknown":"untrustworthy"},"signature":"${hs256Mac}"}`,
  ],
]

export const es256Key = {
  alg: 'ES256',
  use: 'sig',
  x: '04N0xi21hshyvBp7I167sbE_bXqyqkAPfefdklMO7wY',
  y: 'UI8exy-C06a7DUnjIdENkxeFtHM4-l_41LqEw9nVgmw',
  crv: 'P-256',
  kid: 'kid-ec-sign',
  kty: 'EC',
} as const
export const es256Signed = 'eyJhbGciOiJFUzI1NiIsImtpZCI6ImtpZC1lYy1zaWduIn0.Zm9v'
const es256Signature = '5cA0OHyMP7ezamUd5c9kV-FrGxdx4hbGXOdplQkutrqWrte5P-pAvsE3Ve6xSyU3YDQwUHjVVOtvcrEbbnZ8yA'
export const es256Valid: readonly Vector[] = [
  [18, 'valid', `${es256Signed}.${es256Signature}`],
  [378, 'valid', `${es256Signed}.5cA0OHyMP7ezamUd5c9kV-FrGxdx4hbGXOdplQkutrppUShFwBW_Qj7IqhFOtNrIXLLKXS5CSZmERxmnjeyoiQ`],
]
export const es256Invalid: readonly Vector[] = [
  [19, 'modified signature', `${es256Signed}.X${es256Signature.slice(1)}`],
  [20, 'missing signature', `${es256Signed}.`],
  [22, 'modified payload', `eyJhbGciOiJFUzI1NiIsImtpZCI6ImtpZC1lYy1zaWduIn0.WG9v.${es256Signature}`],
  [23, 'missing payload', `eyJhbGciOiJFUzI1NiIsImtpZCI6ImtpZC1lYy1zaWduIn0..${es256Signature}`],
  [25, 'modified header', `eyJhbGciOiJFUzI1NiIsImtpZCI6IlhpZC1lYy1zaWduIn0.Zm9v.${es256Signature}`],
  [31, 'symmetry confusion', 'eyJhbGciOiJIUzI1NiIsImtpZCI6ImtpZC1lYy1zaWduIn0.Zm9v.TgWtz2FIRukBQ_mA5sgHa0Ybtgn7bl-YBPAi7Z0XdHU'],
  [
    32,
    'embedded jwk of an attacker',
    'eyJhbGciOiJFUzI1NiIsImtpZCI6ImtpZC1lYy1zaWduIiwiandrIjp7Imt0eSI6IkVDIiwia2lkIjoia2lkLWVjLXNpZ24iLCJ1c2UiOiJzaWciLCJhbGciOiJFUzI1NiIsIngiOiJNZG5UWkRJaERKYmZBU2RGcWFtY3BPMkNoOUdOS0sybTBNUWxoNDAyU3BvIiwieSI6Ijdhdko0bHFfV3l4LW5MUERCUTJZcHl0dUh5TWlvMDdCVXl2bDNqYUMtMVkiLCJjcnYiOiJQLTI1NiJ9fQ.Zm9v.4jmsollQD8ZxvySzXYnIEYA4fwaZi2ZbC0aI1J4LYmW2Bn31NhKdjms2N6o51Dff5-InWXQF9m45VtTexl6yjg',
  ],
  [379, 'signature too long', `${es256Signed}.AOXANDh8jD-3s2plHeXPZFfhaxsXceIWxlznaZUJLra6AJau17k_6kC-wTdV7rFLJTdgNDBQeNVU629ysRtudnzI`],
  [380, 'trailing zeros', `${es256Signed}.5cA0OHyMP7ezamUd5c9kV-FrGxdx4hbGXOdplQkutroAlq7XuT_qQL7BN1XusUslN2A0MFB41VTrb3KxG252fMgA`],
  [381, 'r too big', `${es256Signed}.AeXANDd8jD-4s2plHeXPZFeeUhXFGPm1S1ChNFgFkdwLAJau17k_6kC-wTdV7rFLJTdgNDBQeNVU629ysRtudnzI`],
  [382, 's too big', `${es256Signed}.AOXANDh8jD-3s2plHeXPZFfhaxsXceIWxlznaZUJLra6AZau17g_6kC_wTdV7rFLJTcdGyr-H-zzcGMse95q2aIZ`],
  [383, 'overflow of r', `${es256Signed}.AeXANDh8jD-3s2plHeXPZFfhaxsXceIWxlznaZUJLra6AJau17k_6kC-wTdV7rFLJTdgNDBQeNVU629ysRtudnzI`],
  [384, 'overflow of s', `${es256Signed}.AOXANDh8jD-3s2plHeXPZFfhaxsXceIWxlznaZUJLra6AZau17k_6kC-wTdV7rFLJTdgNDBQeNVU629ysRtudnzI`],
]
/** Order of the group of P-256. Vectors 386 to 401 are all pairs (r, s) of 0, 1, n - 1 and n. */
export const p256Order = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n

/** Of 32 zero bytes. */
const zeroHead = 'eyJraWQiOiJoczI1Ni1rZXkiLCJhbGciOiJIUzI1NiJ9'
export const base64Valid: readonly Vector[] = [
  [357, 'valid', `${zeroHead}.VGVzdA.c1LROH7eNQwUT8KMVEO52VC3WZ9e_AnDWbZ7aMmowV8`],
  [358, 'zeros in the MAC', `${zeroHead}.VDIxMzI1NjY4.AAAAtBuQqoI9HuBeAsgjL4nx8sCGYJa5-G2OrureLO4`],
  [359, 'ones in the MAC', `${zeroHead}.VDgxMjM0MTM.____ETVRY0lRV9XgQeYX6ixdGT0NLHYb-wZem_ifJ5k`],
  [376, 'spaces in JSON', 'eyAia2lkIiA6ICJoczI1Ni1rZXkiLCAiYWxnIiA6ICJIUzI1NiIgfQ.VGVzdA.3nl1C7dKVGLfNyALp4ZKkmNFBJlFP8M9VGzCyil9S1c'],
  [377, 'white space in JSON', 'eyJraWQiOiJoczI1Ni1rZXkiLAoJImFsZyI6IkhTMjU2In0.VGVzdA.Yxn8cTl7IHpFIoEPOFrWmjm-GQlr_RMqHNJOp1ZuweY'],
]
/** The last two pass there, because decoders may skip what is not base64url; RFC 7515 §2 allows no such character, and we refuse them. */
export const base64Invalid: readonly Vector[] = [
  [360, 'spaces before the MAC', `${zeroHead}.VGVzdA.    c1LROH7eNQwUT8KMVEO52VC3WZ9e_AnDWbZ7aMmowV8`],
  [361, 'character before the MAC', `${zeroHead}.VGVzdA.?c1LROH7eNQwUT8KMVEO52VC3WZ9e_AnDWbZ7aMmowV8`],
  [362, 'character behind the MAC', `${zeroHead}.VGVzdA.c1LROH7eNQwUT8KMVEO52VC3WZ9e_AnDWbZ7aMmowV8?`],
  [363, 'zero replaced', `${zeroHead}.VDIxMzI1NjY4.?AAAtBuQqoI9HuBeAsgjL4nx8sCGYJa5-G2OrureLO4`],
  [364, 'ones replaced', `${zeroHead}.VDgxMjM0MTM.????ETVRY0lRV9XgQeYX6ixdGT0NLHYb-wZem_ifJ5k`],
  [365, 'spaces in the header', `${zeroHead}    .VGVzdA.DR-cdw2cCB53b3mpzMfk2gKTeyN0PhXBrTW1atMfSdM`],
  [366, 'characters in the header', `${zeroHead}####.VGVzdA.23srvDiEYo7665_26qKv4D-0E2a149WRWH_av2ki2I4`],
  [368, 'spaces in the payload', `${zeroHead}.    VGVzdA.AbPJgmXfihyNBUYpbdPK8qRpPjNuTE-Z_wYQyrU2lMQ`],
  [369, 'characters in the payload', `${zeroHead}.####VGVzdA.Ixs2CdBkk8qjqe2-hq2dobqVvv9iDcDS6gPNgoXJyFY`],
  [371, 'character before the payload', `${zeroHead}.?VGVzdA.q0zEA3Js33N6HcOFfBK875qJ_nFwSzI9SN9qJnx5sOc`],
  [374, 'unused bits in the payload', `${zeroHead}.AB.8sL_ycV8G_D-K_2A3I0EW3NoPMeQzv13cAzuHlQ5TAE`],
  [372, 'character in the header', 'eyJraWQiOiJoczI1Ni1rZXkiLCJhbGciOiJIUzI1NiJ?9.VGVzdA.c1LROH7eNQwUT8KMVEO52VC3WZ9e_AnDWbZ7aMmowV8'],
  [373, 'character behind the payload', `${zeroHead}.VGVzdA?.c1LROH7eNQwUT8KMVEO52VC3WZ9e_AnDWbZ7aMmowV8`],
]

export const rs256Key = {
  alg: 'RS256',
  use: 'sig',
  n: 'kqGboBfAWttWPCA-0cGRgsY6SaYoIARt0B_PkaEcIq9HPYNdu9n6UuWHuuTHrjF_ZoQW97r5HaAorNvrMEGTGdxCHZdEtkHvNVVmrtxTBLiQCbCozXhFoIrVcr3qUBrdGnNn_M3jJi7Wg7p_-x62nS5gNG875oyheRkutHsQXikFZwsN3q_TsPNOVlCiHy8mxzaFTUQGm-X8UYexFyAivlDSjgDJLAZSWfxd7k9Gxuwa3AUfQqQcVcegmgKGCaErQ3qQbh1x7WB6iopE3_-GZ8HMAVtR9AmrVscqYsnjhaCehfAI0iKKs8zXr8tISc0ORbaalrkk03H1ZrsEnDKEWQ',
  e: 'AQAB',
  kid: 'kid-rsa-sign',
  kty: 'RSA',
} as const
export const rs256Valid: Vector = [
  33,
  'valid',
  'eyJhbGciOiJSUzI1NiIsImtpZCI6ImtpZC1yc2Etc2lnbiJ9.Zm9v.HUwxI1-cZrZgcuOgBQ7G7NE-GrqK79l6GV1KT4DKXnSMFwC8pfZCzE7pmLE7mYpLCIvzC87yuOjuhT0uW5oe6aaAEtR978cm-q8dfly45flqMrd_ifhi9GCsMlyi8dpQ42Ou1etZljFZuWjfyk8CN1c5DaHRwhqjScAPIFp6xmzKIRUJ_xdQfUSfSlujLaixtScU518EoNP4oo1v7E8RAz6ZO4g2N4Xqs8OvSxYydcoTEg42QnLHe9JnXgI37Q5gSwinwaPsG3Ry56UYiLoL8mCUa74S51y02VsIgVmmGWgaXjM-i_lCiKQDBiBnvWlka4XhVuvd6ZWibM9cbCPtPg',
]

/** Keys of json_web_key_test.json that no signature may be checked with: what differs from the good key. */
export const badEs256Keys: readonly (readonly [id: number, about: string, change: object])[] = [
  [19, 'alg that does not exist', { alg: 'ES521' }],
  [20, 'alg of another curve', { alg: 'ES224' }],
  [21, 'for encryption', { use: 'enc' }],
  [22, 'point that is not on the curve', { y: 'UI8exy-C06a7DUnjIdENkxeFtHM4-l_41LqEw9nVgnw' }],
  [23, 'another curve', { crv: 'P-384' }],
  [24, 'another kty', { kty: 'RSA' }],
]
export const badRs256Keys: readonly (readonly [id: number, about: string, change: object])[] = [
  [6, 'for encryption', { alg: 'RSA1_5', use: 'enc' }],
  [
    8,
    '1024 bits',
    {
      n: 'rJBIp6T1YK-RtPyvYqFFlcucqewSAA_IReSFchE8qyiQrbARqRlXWkB2DR8j_pJQnIpYELbQWZC5Cd0PTGAU8rMbar2AW6zpmBbi7aQf17lUBdt8XI9M9rq7FPVQ1dDdUXm1SVH_9qqWhvMPR422SbfHBEzCAtzK0ANDRo6qz78',
    },
  ],
  [9, 'public exponent 1: whoever knows the padding can sign', { e: 'AQ' }],
]
