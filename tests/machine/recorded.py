"""What the tools of Macs print, as it was recorded; {} are to be filled in."""

from __future__ import annotations

GIB = 2**30

SYSCTL = """\
machdep.cpu.brand_string: {chip}
hw.model: Mac15,9
hw.memsize: {memory}
hw.physicalcpu: 14
kern.osproductversion: 26.2
kern.osversion: 25C56
iogpu.wired_limit_mb: 0
sysctl.proc_translated: 0
"""
IOREG = """\
+-o AGXAcceleratorG15X  <class AGXAcceleratorG15X, id 0x10000039c, registered, matched, active>
    {{
      "IOMatchedAtBoot" = Yes
      "PerformanceStatistics" = {{"Alloc system memory"=2181693440,"Device Utilization %"=30}}
      "model" = "{chip}"
      "gpu-core-count" = {cores}
    }}
"""
DISPLAYS = {
    "SPDisplaysDataType": [
        {
            "_name": "Apple M3 Max",
            "spdisplays_vendor": "sppci_vendor_Apple",
            "sppci_bus": "spdisplays_builtin",
            "sppci_cores": "40",
            "sppci_model": "Apple M3 Max",
        }
    ]
}
PMSET = """\
System-wide power settings:
Currently in use:
 standby              1
 Sleep On Power Button 1
 hibernatefile        /var/vm/sleepimage
 sleep                1 (sleep prevented by caffeinate, powerd)
 lowpowermode         {low}
 womp                 1
"""
BATTERY = """\
Now drawing from 'Battery Power'
 -InternalBattery-0 (id=24182883)	72%; discharging; 3:15 remaining present: true
"""
NO_WARNINGS = """\
Note: No thermal warning level has been recorded
Note: No performance warning level has been recorded
Note: No CPU power status has been recorded
"""
LIMITS = """\
Note: No thermal warning level has been recorded
Note: No performance warning level has been recorded
2026-08-20 05:08:37 -0700 CPU Power notify
	CPU_Scheduler_Limit 	= {scheduler}
	CPU_Available_CPUs 	= 12
	CPU_Speed_Limit 	= {speed}
"""
WARNED = """\
2026-09-23 14:05:31 -0700 Thermal Warning Level = 70
Note: No performance warning level has been recorded
Note: No CPU power status has been recorded
"""
