# SPDX-License-Identifier: GPL-2.0-only
#
# One figure of docs/growth, on standard output: a panel for each operation.
#
#	gnuplot -c bench-growth.gp CSV BACKEND AXIS
#
# CSV has lines of device,axis,value,operation,ticks,n,lowest,highest.

csv = ARG1
backend = ARG2
axis = ARG3

axis_title = axis eq "memory" ? "MiB of memory" : axis eq "dirty" ? "dirty or mapped pages" : \
	axis eq "vcpus" ? "vCPUs" : axis eq "vms" ? "VMs" : "other slots"
operations = "new-vm slot cpuid fault-4k fault-spread fault-write-protect get-dirty-log clear-dirty-log ipi-wake"
titles = "'create and destroy a VM' 'slot added and deleted' 'exit (CPUID)' 'fault, next to each other' " . \
	"'fault, spread' 'write-protect fault' 'get dirty log' 'clear dirty log' 'wake-up by an IPI, both ways'"
points(device, op) = sprintf("<awk -F, '$1 == \"%s\" && $4 == \"%s\" { print $3, $5 }' '%s'", \
	device, op, csv)
both(op) = sprintf("<awk -F, '$4 == \"%s\" { print $3, $5 }' '%s'", op, csv)

set terminal svg size 840,640 font "sans-serif,11" background rgb "white"
set multiplot layout 3,3 title sprintf("%s: ticks by %s, both logarithmic", \
	backend, axis_title) margins 0.07,0.96,0.06,0.88 spacing 0.08,0.1
set logscale xy
set format "%.0s%c"
set xrange [*:*] noextend
set border 3 lc rgb "#888888"
set mxtics 1
set mytics 1
set tics nomirror textcolor rgb "#444444"
set linetype 1 lc rgb "#999999" lw 2 pt 7 ps 0.4
set linetype 2 lc rgb "#c03020" lw 2 pt 7 ps 0.4
do for [i = 1:words(operations)] {
	op = word(operations, i)
	set title word(titles, i) offset 0,-0.7
	# One legend for all, in the first panel's corner, above the titles.
	if (i == 1) { set key at screen 0.98,0.985 horizontal samplen 2 } else { unset key }
	# Whole decades, so that a flat line looks flat.
	set yrange [*:*]
	stats both(op) using 2 nooutput
	set yrange [10 ** floor(log10(STATS_min)) : 10 ** ceil(log10(STATS_max))]
	if (system(sprintf("grep -c '^kvm,.*,%s,' '%s'", op, csv)) > 0) {
		plot points("kvm", op) with linespoints lt 1 title "stock KVM", \
			points("keel", op) with linespoints lt 2 title "keel"
	} else {
		plot points("keel", op) with linespoints lt 2 title "keel"
	}
}
unset multiplot
