{{/*
Names. Every name derives from the release's name in a way that no other release's can equal: two releases in one
namespace don't collide. A release's name has at most 53 characters, so nothing needs cutting.
*/}}
{{- define "adscore.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if eq .Release.Name .Chart.Name -}}
{{- .Chart.Name -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name -}}
{{- end -}}
{{- end }}

{{- define "adscore.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "adscore.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end }}

{{/* What selects this release's pods. Selectors can't be changed by an upgrade: nothing here depends on a value. */}}
{{- define "adscore.releaseLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "adscore.selectorLabels" -}}
{{ include "adscore.releaseLabels" . }}
app.kubernetes.io/component: worker
{{- end }}

{{/* Labels of objects. */}}
{{- define "adscore.labels" -}}
{{ include "adscore.releaseLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Labels of a pod: the user's, but never in place of those that select it. Takes (list $ component). */}}
{{- define "adscore.podLabels" -}}
{{- $root := index . 0 -}}
{{- $own := fromYaml (include "adscore.releaseLabels" $root) -}}
{{- $_ := set $own "app.kubernetes.io/component" (index . 1) -}}
{{- $_ := set $own "app.kubernetes.io/version" $root.Chart.AppVersion -}}
{{- merge $own (deepCopy $root.Values.podLabels) | toYaml -}}
{{- end }}

{{/* The image; its digest wins over its tag. */}}
{{- define "adscore.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end }}

{{/* A number from the values (YAML knows only floats there) as a whole one, in digits. */}}
{{- define "adscore.whole" -}}
{{- printf "%d" (int64 .) -}}
{{- end }}

{{/* Seconds between SIGTERM and SIGKILL: the drain's time-out, rounded up, and room for the container to end. */}}
{{- define "adscore.gracePeriodSeconds" -}}
{{- printf "%d" (add 10 (ceil .Values.config.drain.timeout_seconds | int64)) -}}
{{- end }}
