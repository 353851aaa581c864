// The service's side of the Node quickstart: a local port whose connections go through
// websocket-stream 5 into streams to a device-proxy. DEVICE is one whose target echoes,
// BANNER one whose target speaks first, as sshd does.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { check, done, sdk } from './check.mjs';
import { startStream } from './hub.mjs';

const websocket = sdk('websocket-stream')('websocket-stream');

// open starts a stream as the quickstart does: no subprotocol, and compression offered.
async function open(device) {
  const { accepted, url, token } = await startStream(device, 'TestStream', { connect: 30, answer: 30 });
  assert.equal(accepted, true);
  return websocket(url, { headers: { Authorization: `Bearer ${token}` } });
}

// proxy listens on a local port and forwards each connection to device.
async function proxy(device) {
  const server = createServer(async (socket) => {
    const ws = await open(device);
    for (const end of [socket, ws]) end.on('error', () => socket.destroy());
    socket.pipe(ws).pipe(socket);
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return server.address().port;
}

// receive reads size bytes from a socket.
async function receive(socket, size) {
  const chunks = [];
  let received = 0;
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
    chunks.push(chunk);
    received += chunk.length;
    if (received >= size) break;
  }
  return Buffer.concat(chunks);
}

await check('handshake', async () => {
  const ws = await open(process.env.DEVICE);
  await once(ws, 'connect');
  assert.equal(ws.socket.protocol ?? '', '');
  assert.deepEqual(ws.socket.extensions ?? {}, {}); // permessage-deflate was declined
  ws.end();
  await once(ws, 'close');
});

const port = await proxy(process.env.DEVICE);

await check('echo', async () => {
  const socket = connect(port, '127.0.0.1');
  const sent = randomBytes(1 << 20);
  socket.write(sent);
  assert.ok((await receive(socket, sent.length)).equals(sent));
  socket.end();
  await once(socket.resume(), 'close');
});

await check('connections_at_once', async () => {
  await Promise.all([1, 2, 3, 4].map(async () => {
    const socket = connect(port, '127.0.0.1');
    const sent = randomBytes(1 << 18);
    socket.write(sent);
    assert.ok((await receive(socket, sent.length)).equals(sent));
    socket.destroy();
  }));
});

await check('device_speaks_first', async () => {
  const socket = connect(await proxy(process.env.BANNER), '127.0.0.1');
  assert.equal((await receive(socket, 1)).toString(), 'SSH-2.0-banner\r\n');
  socket.write('SSH-2.0-client\r\n');
  assert.equal((await receive(socket, 1)).toString(), 'SSH-2.0-client\r\n');
  await once(socket.resume(), 'end'); // the target has closed
});

done();
