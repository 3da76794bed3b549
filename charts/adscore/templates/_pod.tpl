{{/* Parts that every pod of the chart shares: worker, topics Job, test. Pod security "restricted" holds for all. */}}

{{- define "adscore.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
serviceAccountName: {{ include "adscore.serviceAccountName" . }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  seccompProfile:
    type: RuntimeDefault
  {{- with .Values.podSecurityContext }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "adscore.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/* What a container that runs `adscore` mounts; /tmp alone is writable. */}}
{{- define "adscore.commonMounts" -}}
- name: config
  mountPath: /etc/adscore
  readOnly: true
{{- if include "adscore.secretSources" . }}
- name: secrets
  mountPath: /run/secrets/adscore
  readOnly: true
{{- end }}
- name: tmp
  mountPath: /tmp
{{- end }}

{{- define "adscore.commonVolumes" -}}
- name: config
  configMap:
    name: {{ include "adscore.fullname" . }}
    items:
      - key: adscore.toml
        path: adscore.toml
{{- with include "adscore.secretSources" . }}
- name: secrets
  projected:
    defaultMode: 288 # 0440
    sources:
      {{- . | nindent 6 }}
{{- end }}
- name: tmp
  emptyDir:
    sizeLimit: {{ .Values.tmp.sizeLimit }}
    {{- with .Values.tmp.medium }}
    medium: {{ . }}
    {{- end }}
{{- end }}

{{/* The Secrets' keys as files: existingSecrets.GROUP.NAME is GROUP.NAME, existingSecrets.files.NAME is NAME. */}}
{{- define "adscore.secretSources" -}}
{{- range $group := keys .Values.existingSecrets | sortAlpha -}}
{{- $entries := get $.Values.existingSecrets $group -}}
{{- range $name := keys ($entries | default dict) | sortAlpha -}}
{{- $source := get $entries $name }}
- secret:
    name: {{ $source.name }}
    items:
      - key: {{ $source.key }}
        path: {{ ternary $name (printf "%s.%s" $group $name) (eq $group "files") }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* `resources` with the GPU beside it, in limits only. */}}
{{- define "adscore.resources" -}}
{{- $resources := deepCopy .Values.resources -}}
{{- if .Values.gpu.enabled -}}
{{- $limits := get $resources "limits" | default dict -}}
{{- $_ := set $limits .Values.gpu.resourceName (include "adscore.whole" .Values.gpu.count) -}}
{{- $_ := set $resources "limits" $limits -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end }}

{{/* Where pods with a GPU go. */}}
{{- define "adscore.scheduling" -}}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $tolerations := .Values.tolerations -}}
{{- if .Values.gpu.enabled -}}
{{- $tolerations = concat .Values.gpu.tolerations $tolerations -}}
{{- end }}
{{- with $tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with include "adscore.affinity" . | fromYaml }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* `affinity`, or nodes with all of `gpu.nodeLabels`. */}}
{{- define "adscore.affinity" -}}
{{- if .Values.affinity -}}
{{- toYaml .Values.affinity -}}
{{- else if and .Values.gpu.enabled .Values.gpu.nodeLabels -}}
nodeAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    nodeSelectorTerms:
      - matchExpressions:
          {{- range $label := keys .Values.gpu.nodeLabels | sortAlpha }}
          - key: {{ $label }}
            operator: In
            values: [{{ get $.Values.gpu.nodeLabels $label | quote }}]
          {{- end }}
{{- end -}}
{{- end }}
