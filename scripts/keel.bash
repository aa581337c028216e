# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Completion of the keel command for bash. What there is to complete comes from
# --help and from keel ps, so that it cannot be out of date.

_keel()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} keel=${COMP_WORDS[0]}
	local command=${COMP_WORDS[1]} words='' usage

	COMPREPLY=()
	if [ "$COMP_CWORD" = 1 ]; then
		words="--help --version $("$keel" --help 2>/dev/null | sed -n 's/^  \([a-z]\{2,\}\) .*/\1/p')"
	else
		usage=$("$keel" "$command" --help 2>/dev/null)
		case $prev in
		--name | --append | --mem | --cpus | --timeout) return ;;
		-* | '=')
			# An option that takes a value, mostly a file.
			if grep -q -- "$prev,\\? .*[A-Z]\|$prev [A-Z]" <<<"$usage"; then
				compopt -o default
				return
			fi
			;;
		esac
		case $cur in
		-*) words=$(sed -n 's/^  ..[, ] \(--[a-z-]*\).*/\1/p' <<<"$usage") ;;
		*)
			if [ "$COMP_CWORD" = 2 ] && grep -q '^Usage: keel [a-z]* NAME' <<<"$usage"; then
				words=$("$keel" ps 2>/dev/null | sed 1d | cut -d' ' -f1)
			else
				compopt -o default
				return
			fi
			;;
		esac
	fi
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -F _keel keel
