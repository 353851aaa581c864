// Package sdktest runs programs that others wrote against the real farport: Azure's
// Node SDKs, websocket-stream, which the Node quickstart's leg is made of, and
// mosquitto's clients, all unmodified. The npm packages come from .ci/sdk.
//
// Those programs know no ports but 443 and 8883, so the test binary starts itself once
// more in a network namespace of its own, where both are free. Each test has a hub on a
// loopback address of its own there.
//
// A script in testdata prints a line per check, "ok NAME" or "not ok NAME: why", and
// each becomes a subtest: docs/protocol.md points to them by name.
package sdktest
