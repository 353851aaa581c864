// The device's side of streams, over the MQTT session of a device SDK's client: no Node
// device SDK ever had streams. Topics are read as strictly as the C and C# SDKs do.
import assert from 'node:assert/strict';
import { promisify } from 'node:util';
import { dial } from './hub.mjs';

// answerStreams subscribes as the C# SDK does and calls answer with each request:
// {name, rid, url, token}.
export async function answerStreams(client, answer) {
  const mqtt = client._transport._mqtt;
  mqtt.on('message', (topic) => {
    if (topic.startsWith('$iothub/streams/POST/')) answer(request(topic));
  });
  const subscribe = promisify(mqtt.subscribe).bind(mqtt);
  await subscribe('$iothub/streams/POST/#', { qos: 0 });
  await subscribe('$iothub/streams/res/#', { qos: 0 });
}

// request takes a request's topic apart: five levels, properties in the last; the URL is
// escaped, the token is not.
function request(topic) {
  const levels = topic.split('/');
  assert.equal(levels.length, 5, topic);
  assert.match(levels[4], /^\?/);
  const properties = Object.fromEntries(levels[4].slice(1).split('&').map((p) => p.split('=')));
  assert.deepEqual(Object.keys(properties).sort(), ['$auth', '$rid', '$url']);
  assert.match(properties.$auth, /^[A-Za-z0-9\-._~]{1,999}$/);
  return { name: levels[3], rid: properties.$rid, url: decodeURIComponent(properties.$url), token: properties.$auth };
}

// respond accepts (200) or rejects (400) a request.
export const respond = (client, { rid }, status) =>
  client._transport._mqtt.publish(`$iothub/streams/res/${status}/?$rid=${rid}`, '', { qos: 0 }, () => {});

// echo accepts a request and sends back whatever comes through the stream.
export function echo(WebSocket, client, request) {
  respond(client, request, 200);
  const ws = dial(WebSocket, request);
  ws.on('message', (data) => ws.send(data, { binary: true }));
  ws.on('error', () => {}); // the other end sees it
}
