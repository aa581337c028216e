# SPDX-License-Identifier: GPL-2.0-only
#
# The table of scripts/bench as bars, on standard output.
#
#	gnuplot -c bench-bars.gp FILE TITLE
#
# FILE has a line for each operation, tabs between: title, KVM's ticks, keel's, and
# both to be read.

file = ARG1
most = 1.2		# longer bars are cut

set datafile separator "\t"
stats file using 2 nooutput
n = STATS_records
ratio(kvm, keel) = keel / kvm > most ? most : keel / kvm

set terminal svg size 840,(80 + 19 * n) noenhanced font "sans-serif,11" background rgb "white"
set title sprintf("%s: keel's ticks by stock KVM's", ARG2)
set margins 53, 22, 3, 3
set xrange [0:most]
set yrange [n - 0.4:-0.6]
set xtics 0.25
set tics nomirror scale 0 textcolor rgb "#444444"
set border 2 lc rgb "#888888"
set arrow from 1, graph 0 to 1, graph 1 nohead lc rgb "#888888" dt 2
set style fill solid noborder
unset key
plot file using (0):0:(0):(ratio($2, $3)):($0 - 0.35):($0 + 0.35):ytic(1) \
		with boxxyerror lc rgb "#c03020", \
	file using (most):0:4 with labels left tc rgb "#444444"
