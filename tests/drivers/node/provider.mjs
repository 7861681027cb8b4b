// A real OpenID provider: access tokens as JWT by client credentials, a client for each tenant.
//
// It says where it is on its first line, and obeys its standard input: `rotate` (a new key in place
// of the old one), `down` (nobody answers), `up`; each is answered by the word and what came of it.
// It ends with its standard input.
import { createServer } from 'node:http'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { generateKeyPairSync, randomUUID, webcrypto } from 'node:crypto'
import { Provider } from 'oidc-provider'

// The Node.js of Debian 12 is older than the provider expects: this is what it uses of a newer one.
globalThis.crypto ??= webcrypto
globalThis.CryptoKey ??= webcrypto.CryptoKey
URL.parse ??= (text, base) => (URL.canParse(text, base) ? new URL(text, base) : null)

const [tenantA, tenantB] = process.argv.slice(2)
const TTL = { 'urn:shop': 600, 'urn:shop:short': 4 }

function key() {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), alg: 'ES256', use: 'sig' }
}

function client(id, tenant) {
  return {
    client_id: id,
    client_secret: `secret of ${id}`,
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
    token_endpoint_auth_method: 'client_secret_post',
    id_token_signed_response_alg: 'ES256',
    tenant,
  }
}

function provider(issuer, jwk) {
  return new Provider(issuer, {
    clients: [client('a', tenantA), client('b', tenantB)],
    extraClientMetadata: { properties: ['tenant'] },
    extraTokenClaims: (_ctx, token) => ({ org_id: token.client.tenant }),
    jwks: { keys: [jwk] },
    ttl: { ClientCredentials: (_ctx, token) => token.resourceServer.accessTokenTTL },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_ctx, resource) => ({
          scope: 'sql',
          audience: 'shop',
          accessTokenTTL: TTL[resource],
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: 'ES256' } },
        }),
      },
    },
  })
}

const server = createServer((request, response) => handler(request, response))
async function listen(port) {
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  return server.address().port
}
const port = await listen(0)
const issuer = `http://127.0.0.1:${port}`
let jwk = key()
let handler = provider(issuer, jwk).callback()
console.log(issuer)

for await (const word of createInterface({ input: process.stdin })) {
  if (word === 'rotate') {
    jwk = key()
    handler = provider(issuer, jwk).callback()
    console.log(`rotate ${jwk.kid}`)
  } else if (word === 'down') {
    server.close()
    server.closeAllConnections()
    console.log('down')
  } else if (word === 'up') {
    await listen(port)
    console.log('up')
  } else {
    throw new Error(`unknown word: ${word}`)
  }
}
process.exit(0)
