// Command farport is the whole of farport in one program: the hub, the proxies at
// both ends of a device stream, and what an operator needs around them. It turns
// arguments into options and errors into words; the work is done by packages hub,
// hubclient and proxy.
//
//	main.go  signals     root.go  command tree, shared flags     env.go, configfile.go  variables, files
//	credentials.go, storedhub.go  connection strings     terminal.go, meter.go  all output for people
//	exit.go  error to hint and exit code     the rest: one command per file
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the linker (-X main.version=...); "" means what Go's build
// information says.
var version string

// streams are a process's standard input and outputs.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

func main() {
	os.Exit(start(os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr}))
}

// start runs one command until it is done or told to stop: the first SIGINT, SIGTERM or
// SIGHUP ends its context, a second one the process. It returns the exit code.
func start(args []string, s streams) int {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // as nohup has it
		signal.Notify(signals, syscall.SIGHUP) // ssh's last word to its ProxyCommand
	}
	go func() { // ends with the process
		<-signals
		stop()
		<-signals
		os.Exit(exitInterrupted)
	}()
	return run(ctx, args, s, os.LookupEnv)
}
