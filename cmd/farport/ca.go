package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/farportio/farport/hubclient"
)

const (
	// fingerprintDigits is the length of a CA's fingerprint, SHA-256 in hex, and
	// minFingerprint that of the shortest beginning that can stand for one.
	fingerprintDigits = 64
	minFingerprint    = 8
)

// exitsOfCA are the exit codes of commands about CAs.
var exitsOfCA = []int{exitUsage, exitUnauthorized, exitTimeout, exitHub}

func newCA(a *app) *cobra.Command {
	cmd := group("ca", "Manage the CAs that vouch for devices with certificates")
	cmd.Long = `Manages the certificate authorities that vouch for devices. A device that was created
with --x509-ca signs in with any certificate of theirs that names the device as its
subject's CN. They need the iothubowner policy.`
	cmd.Example = `  farport ca add ca.pem --key ca.key
  farport ca list
  farport device create pi-1 --x509-ca`
	cmd.AddCommand(newCAAdd(a), newCAList(a), newCARemove(a))
	return cmd
}

func newCAList(a *app) *cobra.Command {
	var o deviceOptions
	cmd := &cobra.Command{
		Use:         "list",
		Short:       "List the CAs",
		Long:        `Lists the CAs that vouch for devices, and until when.`,
		Example:     "  farport ca list\n  farport ca list -o json",
		Args:        arguments(),
		Annotations: exitStatus(exitsOfCA...),
		RunE:        func(cmd *cobra.Command, _ []string) error { return runCAList(cmd.Context(), a, o) },
	}
	o.addFlags(cmd.Flags())
	completeOutput(cmd)
	return cmd
}

func runCAList(ctx context.Context, a *app, o deviceOptions) error {
	return a.operate(ctx, &o, func(hub *hubclient.Service, _ hubclient.ConnectionString) error {
		cas, err := hub.ListCAs(ctx)
		if err != nil {
			return err
		}
		shown := append([]hubclient.CA{}, cas...) // never null in JSON
		return a.term.result(o.outputOptions, shown, func() error { return a.tableOfCAs(shown) })
	})
}

func (a *app) printCA(o outputOptions, ca hubclient.CA) error {
	return a.term.result(o, ca, func() error { return a.tableOfCAs([]hubclient.CA{ca}) })
}

func (a *app) tableOfCAs(cas []hubclient.CA) error {
	var rows [][]string
	for _, ca := range cas {
		rows = append(rows, []string{ca.Fingerprint, ca.Subject, ca.NotAfter.UTC().Format(time.DateOnly)})
	}
	return a.term.table([]string{"FINGERPRINT", "SUBJECT", "EXPIRES"}, rows)
}

func newCARemove(a *app) *cobra.Command {
	var o deviceOptions
	cmd := &cobra.Command{
		Use:   "remove FINGERPRINT",
		Short: "Take a CA's right to vouch for devices",
		Long: `Removes a CA: devices with its certificates cannot sign in any more. The first 8
digits of the fingerprint are enough if no other CA's begins so.`,
		Example:     "  farport ca remove 3f2a9c01",
		Args:        arguments("FINGERPRINT"),
		Annotations: exitStatus(exitsOfCA...),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runCARemove(cmd.Context(), a, o, args[0])
		},
	}
	o.credentialOptions.addFlags(cmd.Flags(), serviceVariables...)
	o.format = formatTable
	return cmd
}

func runCARemove(ctx context.Context, a *app, o deviceOptions, fingerprint string) error {
	digits, ok := parseFingerprint(fingerprint)
	if !ok {
		return usage("%s is no fingerprint: must be %d to %d hex digits", quote(fingerprint), minFingerprint, fingerprintDigits)
	}
	return a.operate(ctx, &o, func(hub *hubclient.Service, _ hubclient.ConnectionString) error {
		cas, err := hub.ListCAs(ctx)
		if err != nil {
			return err
		}
		full, err := findCA(cas, digits)
		if err != nil {
			return err
		}
		if err := hub.RemoveCA(ctx, full); err != nil {
			return err
		}
		a.term.notice("CA %s: removed", full)
		return nil
	})
}

// parseFingerprint reads the beginning of a fingerprint, or all of it, also with the
// colons of openssl or as connection strings have it.
func parseFingerprint(text string) (digits string, ok bool) {
	digits = strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(text, "sha256:")), ":", "")
	ok = len(digits) >= minFingerprint && len(digits) <= fingerprintDigits && strings.Trim(digits, "0123456789abcdef") == ""
	return digits, ok
}

// findCA returns the only fingerprint that begins with digits.
func findCA(cas []hubclient.CA, digits string) (fingerprint string, err error) {
	for _, ca := range cas {
		switch {
		case !strings.HasPrefix(ca.Fingerprint, digits):
		case fingerprint != "":
			return "", &codedError{exitFailed, "give more digits of it", errors.New("more than one CA's fingerprint begins with " + digits)}
		default:
			fingerprint = ca.Fingerprint
		}
	}
	if fingerprint == "" {
		return "", &codedError{exitFailed, `"farport ca list" shows the CAs`, errors.New("no CA's fingerprint begins with " + digits)}
	}
	return fingerprint, nil
}
