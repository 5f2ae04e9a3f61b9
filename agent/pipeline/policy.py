"""MDP-1 in words: what is done about missing, late and implausible values, for those who ask.

What stands here is what the code of this version does; docs/policy.md is made of it.
"""

from __future__ import annotations

ENGLISH = """\
# MDP-1: what gardien does about missing, late and implausible values

The version stands in every batch (`policy`). It is a promise about every slot of every series.

1. **Nothing is overwritten.** What a meter said is sent as it said it, with its own digits. A
   correction is a new version of the row (`ver`); the highest version counts. No value is not zero.
2. **The index is the truth.** Consumption of a step (`INT`) is calculated from two indexes in
   slots that follow each other, where `intervals: true` asks for it, and is marked K.
3. **Every slot gives one row:** a value, or M with the reason. `silent`: the meter did not answer;
   `link`: its line was down; `agent`: gardien was down; `bad`: the meter says the value is
   invalid; `early`: before its first answer; `busy`: the line had no time left; `shed`: dropped
   because the disk was full; `clock`: the time was not known. A run of M is one row (`span`).
   A meter that was silent is asked again every minute while its slot runs, if a slot lasts longer
   than two; what it then says is sent as a new version, flagged LATE.
4. **Nothing is estimated.** A gap stays a gap; no index is ever made up.
5. **Suspect values are kept and marked.** V: measured, all checks passed. R: measured, but
   something that would be needed for a check is not known (the value before, the meter's rating).
   S: measured, and a check failed; leave it out of sums.
6. **An index that falls** has rolled over (flag ROLL) if it stood above 90 % of its end and what
   then flowed is possible; otherwise S and RST: the meter was reset or read wrongly. A value that
   the next one confirms counts from there on.
7. **Another serial number** than the installed one: nothing leaves for that dwelling until
   somebody says what happened.
8. **Plausibility.** An index that rises faster than 1.2 times the meter's `rating`: S and SPK. A
   value outside what its quantity can be: S and RNG; one that changes faster than it can: S and
   SPK. A sensor that says the very same for 24 h, an index that stands still for 30 days: FRZ,
   for information.
9. **Time.** Steps shorter than a day have their slots in UTC. A day begins at the building's
   midnight and has 23, 24 or 25 hours (flag DST at the end of a short or long one). `d` says how
   many seconds after its slot a value was read; an index read later than a quarter of its step is
   flagged PART. While no time service keeps the clock readings are not dated: they wait in memory
   and get their dates once the clock is known (flag CLK, a new version). What waits at a restart
   is lost and counted as M.
10. **A value comes once.** A slot is closed once, by one meter of a place; the platform refuses a
    second row with the same key and counts it.
11. **Outage.** Reading goes on while the platform cannot be reached. When the space for it is
    used up, values are dropped and their slots are M `shed`.
"""

FRENCH = """\
# MDP-1 : ce que fait gardien des valeurs manquantes, tardives et douteuses

La version figure dans chaque lot (`policy`). C'est un engagement sur chaque pas de chaque série.

1. **Rien n'est écrasé.** Ce que dit un compteur est transmis tel quel, avec ses propres chiffres.
   Une correction est une nouvelle version de la ligne (`ver`) ; la plus haute fait foi. L'absence
   de valeur n'est pas zéro.
2. **L'index fait foi.** La consommation d'un pas (`INT`) est calculée à partir de deux index qui se
   suivent, là où `intervals: true` la demande ; elle porte la lettre K.
3. **Chaque pas donne une ligne :** une valeur, ou M avec le motif. `silent` : le compteur n'a pas
   répondu ; `link` : sa ligne était coupée ; `agent` : gardien était arrêté ; `bad` : le compteur
   déclare la valeur invalide ; `early` : avant sa première réponse ; `busy` : la ligne n'avait
   plus le temps ; `shed` : abandonnée faute de place sur le disque ; `clock` : l'heure n'était pas
   connue. Une suite de M tient en une ligne (`span`). Un compteur muet est interrogé de nouveau
   chaque minute tant que dure son pas, si celui-ci dépasse deux minutes ; ce qu'il dit alors part
   comme nouvelle version, marquée LATE.
4. **Rien n'est estimé.** Un trou reste un trou ; aucun index n'est inventé.
5. **Les valeurs douteuses sont conservées et signalées.** V : mesurée, tous contrôles passés. R :
   mesurée, mais il manque de quoi contrôler (la valeur précédente, la puissance du compteur). S :
   mesurée, un contrôle a échoué ; à ne pas additionner.
6. **Un index qui baisse** est repassé par zéro (ROLL) s'il dépassait 90 % de sa capacité et si ce
   qui s'est écoulé est possible ; sinon S et RST : compteur remis à zéro ou mal lu. Une valeur que
   la suivante confirme sert de nouveau départ.
7. **Un autre numéro de série** que celui du compteur posé : rien ne part pour ce logement tant que
   personne n'a dit ce qui s'est passé.
8. **Vraisemblance.** Un index qui monte plus vite que 1,2 fois la puissance (`rating`) : S et SPK.
   Une valeur hors de ce que la grandeur peut être : S et RNG ; une valeur qui change plus vite
   qu'elle ne le peut : S et SPK. Un capteur qui dit exactement la même chose pendant 24 h, un index
   immobile pendant 30 jours : FRZ, pour information.
9. **Temps.** Les pas de moins d'un jour sont en UTC. Le jour commence à minuit au bâtiment et
   compte 23, 24 ou 25 heures (DST à la fin d'un jour court ou long). `d` donne les secondes entre
   le pas et la lecture ; un index lu après le quart de son pas porte PART. Tant qu'aucun service
   de temps ne tient l'horloge, les lectures ne sont pas datées : elles attendent en mémoire et
   reçoivent leur date quand l'heure est connue (CLK, nouvelle version). Ce qui attend lors d'un
   redémarrage est perdu et compté M.
10. **Une valeur arrive une fois.** Un pas est clos une seule fois, par un seul compteur d'un lieu ;
    la plateforme refuse et compte une seconde ligne de même clé.
11. **Coupure.** La lecture continue quand la plateforme est injoignable. Quand la place prévue est
    épuisée, des valeurs sont abandonnées et leurs pas sont M `shed`.
"""

WORDS = {"en": ENGLISH, "fr": FRENCH}
"""the policy by language"""
