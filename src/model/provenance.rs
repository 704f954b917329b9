//! `ls_origin`: where and when a record was born (interface §4).
