// Package tcptest plays what TCP can do over a direct connection and over a stream
// from service-proxy to device-proxy, and demands that both ends see the same
// (farport-v1.md section 10). It has tests only; docs/tcp.md is what they found.
package tcptest
