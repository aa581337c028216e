# SPDX-License-Identifier: GPL-2.0-only
#
# The table of scripts/bench, out of "bench --list" (tabs) and what bench-run
# printed: device,operation,ticks,n,lowest,highest. With -v bars=1 what bench-bars.gp
# draws instead.

function number(x)
{
	return x == "" ? "" : sprintf(x < 100 ? "%.1f" : "%d", x < 100 ? x : x + 0.5)
}

# 1234567.8 as 1,234,568
function thousands(x,	s)
{
	for (s = sprintf("%d", x + 0.5); s ~ /[0-9][0-9][0-9][0-9]/; )
		sub(/[0-9][0-9][0-9]($|,)/, ",&", s)
	return s
}

function spread(d, o)
{
	if (!((d, o) in ticks) || ticks[d, o] <= 0)
		return ""
	return sprintf("%.1f%%", 100 * (high[d, o] - low[d, o]) / ticks[d, o])
}

function row(title, kvm, keel, ratio, above, s)
{
	printf "%-48s %12s %12s %7s %7s", title, kvm, keel, ratio, above
	if (repeat)
		printf " %s", s
	printf "\n"
}

function geometric(name, sum, n)
{
	if (n)
		row(name, "", "", sprintf("%.2f", exp(sum / n)), "")
}

NR == FNR {
	order[++count] = $1
	kind[$1] = $2
	title[$1] = $3
	next
}

{
	split($0, f, ",")
	seen[f[2]] = 1
	ticks[f[1], f[2]] = f[3]
	low[f[1], f[2]] = f[5]
	high[f[1], f[2]] = f[6]
}

END {
	if (bars) {
		for (i = 1; i <= count; i++) {
			o = order[i]
			if (ticks["kvm", o] > 0 && ticks["keel", o] > 0)
				printf "%s\t%s\t%s\t%s of %s\n", title[o], ticks["kvm", o],
					ticks["keel", o], thousands(ticks["keel", o]),
					thousands(ticks["kvm", o])
		}
		exit
	}
	floor["kvm"] = ticks["kvm", "api-version"]
	floor["keel"] = ticks["keel", "api-version"]
	print ""
	row(backend ", ticks per operation", "KVM", "keel", "ratio", "above", "spread")
	for (i = 1; i <= count; i++) {
		o = order[i]
		if (!(o in seen))
			continue
		kvm = ticks["kvm", o]
		keel = ticks["keel", o]
		ratio = above = ""
		if (kvm > 0 && keel > 0) {
			ratio = sprintf("%.2f", keel / kvm)
			if (kind[o] == "in") {
				sum += log(keel / kvm)
				n++
			}
			if (kind[o] == "user" && floor["kvm"] && kvm > floor["kvm"] &&
			    keel > floor["keel"]) {
				a = (keel - floor["keel"]) / (kvm - floor["kvm"])
				above = sprintf("%.2f", a)
				user_sum += log(a)
				user_n++
			}
		}
		row(title[o], number(kvm), number(keel), ratio, above,
		    spread("kvm", o) " " spread("keel", o))
	}
	geometric("geometric mean, handled in the kernel", sum, n)
	if (user_n)
		row("geometric mean, through userspace, above the floor", "", "", "",
		    sprintf("%.2f", exp(user_sum / user_n)))
}
