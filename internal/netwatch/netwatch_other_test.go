//go:build !linux

package netwatch

func inNamespace() bool { return false }
