"""Metrics: functions of arrays that know no system; a name carries its protocol (`ppl_iw100`, `fd_resnet20_5k`)."""
