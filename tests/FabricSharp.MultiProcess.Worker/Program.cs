// The program that the multi-process tests start: `Worker <scenario> name=value …`. It launches its other ranks as a user's program does.
// What a rank found out it prints as one line `report {json}`; the launcher puts `[rank n] ` before the lines of the other ranks.
using FabricSharp.MultiProcess.Worker;

var settings = Settings.Parse(args);
Scenario.Find(args[0])(settings);
